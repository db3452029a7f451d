"""Multilingual Collaborative Defense (arXiv 2505.11835): a soft safety prompt, trained in a few
languages to protect in all."""
