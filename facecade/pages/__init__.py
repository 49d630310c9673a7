"""HTML pages that open from disk: report, dataset overview, label audit."""
