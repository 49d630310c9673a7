"""HTML elements and SVG charts."""
