"""The file that `polyrefuse study init` writes."""

EXAMPLE = """\
# A study: every model under every condition, in every language. `polyrefuse study plan FILE` shows
# its jobs, and `polyrefuse study run FILE --output FOLDER` runs those that are not finished.
study: my-study

# Names for the report; each is a name on the hub or a folder. Other keys are arguments of lm_eval's
# --model_args (dtype: bfloat16, revision: ..., parallelize: true). gpus: N gives a process N GPUs.
models:
  organism: polyrefuse-organism
  # qwen: {pretrained: Qwen/Qwen2.5-7B-Instruct, dtype: bfloat16}

# toyrefuse is the bundled organism's invented world. For any other model: polyrefuse (harmful and
# harmless), harmful, harmless, jailbreakbench, advbench, malicious_instruct, multijail,
# xstest_safe, xstest_unsafe, oktest, orbench_hard.
datasets: [toyrefuse]
languages: [en, de, yo]
limit: 10  # prompts of each task; leave it out for all
batch_size: 16

conditions:
  baseline:
  ablation:
  random-ablation:  # a random direction in its place
  addition:
  # half: {like: ablation, coefficient: 0.5}
  # mcd:
  # system-prompt: {system_file: words.txt}

directions:
  source: en  # the language that the conditions' direction is extracted from
  # transfer: [en, de, yo]  # the direction of each, ablated, in each language
  # geometry: [en, de, yo]

# mcd: {languages: [en, de]}

# Labels beside those of the native judge; see docs/how-to/model-judges.md.
# judges: [wildguard]

# Other tasks of lm_eval, to see what a condition costs.
# capability: {tasks: [mmlu, gsm8k], limit: 100}
"""
