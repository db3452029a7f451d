"""Extract refusal directions and measure what they do to a model.

- `recipe.make_direction` extracts a direction from a model: `prompts` chooses the prompts,
  `extract` takes differences of means, `refusal` scores answers, `scores` and `search` try
  candidates, and `select` has the published selection rules. `refusals` counts what the untouched
  model refuses, and `stability` measures how much a direction depends on its prompts.
- `auto.find_direction` does the same once for each model, and keeps the result.
- `control` makes the random direction that an effect is compared with.
- `artifact` writes and reads a direction; `score_pictures` draws its candidates' scores.
- `transfer` ablates the direction of one language and measures another; `transfer_pictures` draws
  the result. `comparison`, `rank` and `sweep` measure other effects of one direction.
- `geometry` shows where the prompts of each language lie along a direction. `states` reads the
  prompts once, `areas` computes AUCs, `monitor` calibrates a threshold, and `harmfulness` compares
  two directions. `answered` finds out how the model answered the prompts of a run, `attacks` finds
  the prompts that are another prompt with an attack around it, and `success` shows where each lies.
  `geometry_pictures`, `monitor_pictures`, `harmfulness_pictures` and `success_pictures` draw the
  results in the colours of `polyrefuse_shared.colours`; `geometry_text` prints them.
"""
