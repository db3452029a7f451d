"""Judges that are models: each file has one's prompt format, its parser, and where both come from.

None of them imports torch: `judge_engines` runs the model when the first answers come.
"""
