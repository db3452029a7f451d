"""The file that `polyrefuse study init` writes."""

EXAMPLE = """\
# A study measures every model in every condition and language. `polyrefuse study plan FILE` shows
# its jobs, and `polyrefuse study run FILE --output FOLDER` runs those that are not finished.
study: my-study

# The names that the report uses, each with a name on the hub or a folder. Other keys are arguments
# of lm_eval's --model_args (dtype: bfloat16, revision: ..., parallelize: true). gpus: N gives a
# process N GPUs.
models:
  organism: polyrefuse-organism
  # qwen: {pretrained: Qwen/Qwen2.5-7B-Instruct, dtype: bfloat16}

# toyrefuse is the bundled organism's invented world. For any other model: polyrefuse (harmful and
# harmless), harmful, harmless, jailbreakbench, advbench, malicious_instruct, multijail,
# xstest_safe, xstest_unsafe, oktest, orbench_hard.
datasets: [toyrefuse]
languages: [en, de, yo]
limit: 10  # the prompts of each task; leave it out to ask all
batch_size: 16

conditions:
  baseline:
  ablation:
  random-ablation:  # the control: a random direction is ablated
  addition:
  # half: {like: ablation, coefficient: 0.5}
  # mcd:
  # system-prompt: {system_file: words.txt}

directions:
  source: en  # the language that the conditions' direction is extracted from
  # transfer: [en, de, yo]  # ablate the direction of each language in each language
  # geometry: [en, de, yo]

# mcd: {languages: [en, de]}

# Further judges, whose labels stand beside those of the native judge.
# judges: [wildguard]

# Other tasks of lm_eval, which show what a condition costs.
# capability: {tasks: [mmlu, gsm8k], limit: 100}
"""
