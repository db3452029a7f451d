"""The HTML page: template, style and script beside it, the table library in `vendor/`."""
