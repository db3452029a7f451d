"""The HTML pages: `paging` writes them, `html` renders one, `gallery` chooses its pictures,
`charts` draws those; template, style and script lie beside, the table library in `vendor/`.
"""
