"""Results as tables, figures and one self-contained page. Sees results and arrays; alone rounds."""
