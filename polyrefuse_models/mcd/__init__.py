"""Multilingual Collaborative Defense (arXiv 2505.11835): a soft safety prompt, trained in a few
languages to protect in all.

- `train.train` trains one on `anchors`, by `settings`; `checkpoint` lets it go on where it stopped.
- `states` and `labels` observe the model, `probes` are fitted on them and `loss` is measured with
  these; `published_labels` and `published_probes` do it as the published code does.
- `artifact` writes and reads a soft prompt; `training_pictures` draws a training.
- `safety_prompts` has the safety prompts in words.
"""
