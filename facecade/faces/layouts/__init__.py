"""The layouts of datasets. Each is a function from a path to `given.Given`: rows as they are written, which `faces.source` checks."""
