"""SmolLM2-135M-Instruct under every condition, with controls: the numbers of docs/real-model.md.

    export POLYREFUSE_DATA_DIR=DATA
    python -m benchmarks.real_model runs FOLDER        # evaluations: an hour on two cores
    python -m benchmarks.real_model stability FOLDER   # choices by seeds and halves: 40 minutes
    python -m benchmarks.real_model effects FOLDER     # KL divergence and perplexity: 15 minutes
    python -m benchmarks.real_model record FOLDER      # keep it in docs/real-model, no answers
    python -m benchmarks.real_model tables docs/real-model   # write its tables into the page

Each goes on where it was stopped, or reads what is there.
"""
