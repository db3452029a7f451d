"""Train a soft prompt by Multilingual Collaborative Defense (arXiv 2505.11835).

The soft prompt is trained in a few languages, and meant to protect the model in all of them.

- `train.train` trains a soft prompt on `anchors` with `settings`, and `checkpoint` lets an
  interrupted training continue.
- `states` and `labels` observe the model, `probes` fits probes on what they observe, and `loss`
  uses the probes. `published_labels` and `published_probes` follow the published code.
- `artifact` writes and reads a soft prompt, and `training_pictures` draws a training.
- `safety_prompts` has the safety prompts in words.
"""
