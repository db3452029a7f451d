"""Refusal directions, from prompts to what they do.

- `recipe.make_direction` extracts one from a model: `prompts` chooses the prompts, `extract` takes
  differences of means, `refusal` scores answers, `scores` and `search` try candidates, and `select`
  has the published rules of choice.
- `auto.find_direction` does the same once a model, and keeps the result.
- `artifact` writes and reads a direction; `score_pictures` draws its candidates' scores.
- `transfer` ablates one language's direction in another, `geometry` shows where each language's
  prompts lie along a direction; `transfer_pictures` and `geometry_pictures` draw them.
"""
