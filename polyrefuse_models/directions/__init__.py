"""Refusal directions: the artifact, extraction by difference of means, selection of a candidate."""
