"""Refusal directions, from prompts to what they do.

- `recipe.make_direction` extracts one from a model: `prompts` chooses the prompts, `extract` takes
  differences of means, `refusal` scores answers, `scores` and `search` try candidates, and `select`
  has the published rules of choice. `refusals` counts what the model refuses as it is, and
  `stability` says how much a direction depends on its prompts.
- `auto.find_direction` does the same once a model, and keeps the result.
- `control` makes the random direction that an effect is compared with.
- `artifact` writes and reads a direction; `score_pictures` draws its candidates' scores.
- `transfer` ablates one language's direction in another; `transfer_pictures` draws it.
- `geometry` shows where each language's prompts lie along a direction. `states` reads them once,
  `areas` has AUCs, `monitor` calibrates a threshold, `harmfulness` compares two directions.
  `answered` finds what the model did with a run's prompts, `attacks` which of them are others with
  an attack around, and `success` where they lie. `geometry_pictures`, `monitor_pictures`,
  `harmfulness_pictures` and `success_pictures` draw it, in the colours of `marks`, and
  `geometry_text` tells it.
"""
