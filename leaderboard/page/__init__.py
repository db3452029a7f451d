"""Write the HTML pages of a leaderboard.

`paging` writes the pages, `html` renders one, `gallery` chooses its pictures and `charts` draws
them. Template, style and script are beside these modules, and the table library is in `vendor/`.
"""
