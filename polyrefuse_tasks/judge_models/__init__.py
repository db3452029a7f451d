"""Judges that are models: each module has the prompt and the parser of one judge, and their source.

None of them imports torch: `judge_engines` loads the model with the first answers.
"""
