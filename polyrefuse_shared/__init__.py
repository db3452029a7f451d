"""What every package of the plugin stands on: errors, log, writing, intervals, options, versions,
and what it relies on inside lm-eval.
"""
