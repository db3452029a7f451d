"""Every figure that a command draws, of an invented model with any number of languages and layers.

The numbers are invented, but shaped as those of a model: clouds that lie apart along one component
and hardly spread along the other, rates near 0 and 1, candidates above the KL limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from polyrefuse_leaderboard import model_rows
from polyrefuse_leaderboard.page import charts
from polyrefuse_leaderboard.transfers import Transfer

from polyrefuse_models.directions.answered import AnsweredPrompt, Answers
from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.geometry_pictures import (
    geometry_figure,
    geometry_layers_figure,
)
from polyrefuse_models.directions.harmfulness_pictures import harmfulness_figure
from polyrefuse_models.directions.monitor import monitor
from polyrefuse_models.directions.monitor_pictures import monitor_figure
from polyrefuse_models.directions.rank_pictures import rank_figure
from polyrefuse_models.directions.score_pictures import scores_figure
from polyrefuse_models.directions.select import Candidate
from polyrefuse_models.directions.success import success
from polyrefuse_models.directions.success_pictures import answers_figure, answers_layers_figure
from polyrefuse_models.directions.sweep_pictures import sweep_figure
from polyrefuse_models.directions.transfer_pictures import (
    cosine_figure,
    transfer_figure,
    universality_figure,
)
from polyrefuse_models.mcd.loss import Terms
from polyrefuse_models.mcd.training_pictures import states_figure, training_figure
from polyrefuse_shared.pictures import short_name
from polyrefuse_tasks.judges import Label
from polyrefuse_tasks.languages import POLYREFUSE
from tests.leaderboard.invented import record, wilson, with_means

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOKENS = ("<|im_end|>", "Ċ", "<|im_start|>", "assistant", "Ċ")
"""What a chat template puts after the user's text, in a byte-level vocabulary."""

CONTROL = {"control": "random", "control_seed": 3, "control_of": 64 * "0"}
"""What a document says of a random direction."""

N = 24
"""Prompts of each kind and language."""


@dataclass
class Invented:
    """A model with numbers.

    Attributes:
        model: what its results call it.
        languages: codes, English first.
        layers: how many blocks it has.
        control: whether its direction is a random one.
    """

    model: str
    languages: tuple[str, ...]
    layers: int
    control: bool = False
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(20))

    @property
    def chosen(self) -> tuple[int, int]:
        """Position and layer of the direction."""
        return -1, self.layers // 2

    def direction(self) -> Direction:
        """Candidates of which most that refuse least are above the KL limit."""
        position, layer = self.chosen
        scores = []
        for at in range(-len(TOKENS), 0):
            for depth in range(self.layers):
                away = abs(depth - layer) + abs(at - position)
                chosen = not away
                refusal = -8.0 + 0.1 * away - (2.0 if depth < layer else 0.05)
                scores.append(
                    Candidate(
                        at,
                        depth,
                        refusal_score=refusal if depth < 0.8 * self.layers else None,
                        steering_score=4.0 if chosen else None,
                        kl_div_score=0.04 if chosen else None,
                    )
                )
        metadata = {
            "model": self.model, "source_lang": "en", "position": position, "layer": layer,
            "suffix_tokens": list(TOKENS), "rule": "2505.17306",
            "untouched": {"harmful_refusal_score": 5.0, "harmless_refusal_score": -6.0},
        }  # fmt: skip
        candidates = torch.ones(len(TOKENS), self.layers, 4)
        return Direction(candidates[position, layer], candidates, scores, metadata)

    def geometry(self) -> dict[str, Any]:
        """A document of `polyrefuse direction geometry` with all that it may have."""
        position, layer = self.chosen
        clouds = {
            language: {
                kind: self.random.normal(size=(N, 2)) * (3, 0.03) + (shift, 0)
                for kind, shift in (("harmful", 12.0 - place / 2), ("harmless", 0.0))
            }
            for place, language in enumerate(self.languages)
        }
        along = {
            name: np.concatenate([of["harmful"][:, 0], of["harmless"][:, 0]])
            for name, of in clouds.items()
        }
        harmful = {name: np.repeat([True, False], N) for name in self.languages}
        rows = {name: [f"row {row}" for row in range(2 * N)] for name in self.languages}
        return {
            "model": self.model,
            "direction": CONTROL if self.control else {},
            "position": position,
            "layer": layer,
            "explained_variance": [0.93, 0.0002],
            "plane": {
                name: {kind: points.tolist() for kind, points in of.items()}
                for name, of in clouds.items()
            },
            "languages": {
                name: {"auc": 0.97, "auc_low": 0.93, "auc_high": 1.0} for name in self.languages
            },
            "layers": [self._layer(at) for at in range(self.layers)],
            "monitor": {
                "position": position, "layer": layer,
                **monitor(
                    along, harmful, rows, calibrated_in="en", false_alarms=0.05, seed=0
                ),
            },
            "harmfulness": {
                "user": -len(TOKENS) - 1, "last": -1,
                "languages": {name: self._angle(layer, name) for name in self.languages},
                "layers": [
                    {"layer": at, "languages": {n: self._angle(at, n) for n in self.languages}}
                    for at in range(self.layers)
                ],
            },
            "success": self._success(),
        }  # fmt: skip

    def _layer(self, at: int) -> dict[str, Any]:
        share = at / max(1, self.layers - 1)
        n = len(self.languages)
        cosine = [
            [1.0 if a == b else 0.3 + 0.6 * share - 0.01 * abs(a - b) for b in range(n)]
            for a in range(n)
        ]
        return {
            "layer": at,
            "languages": {
                name: {"auc": None, "silhouette": None}
                if not at
                else {"auc": 0.5 + 0.49 * share - 0.01 * place, "silhouette": 0.4 * share}
                for place, name in enumerate(self.languages)
            },
            "cosine": cosine if at else [[None] * n] * n,
        }

    def _angle(self, at: int, language: str) -> dict[str, float | None]:
        place = self.languages.index(language)
        if not at:
            return dict.fromkeys(("angle", "angle_low", "angle_high"))
        angle = 40.0 + 9 * place % 140 + at / self.layers
        return {"angle": angle, "angle_low": angle - 4, "angle_high": angle + 4}

    def _success(self) -> dict[str, Any]:
        labels = (Label.REFUSAL, Label.COMPLIANCE, Label.REFUSAL, Label.DEGENERATE)
        prompts, own = [], {}
        for language in self.languages:
            plain = [
                AnsweredPrompt(
                    f"harmful/{i}", "harmful", language, f"Where is {i}.?", True, labels[i % 4]
                )
                for i in range(4 * N)
            ]
            prompts += plain
            own[language] = self.random.normal(size=(len(plain), self.layers))
        answers = Answers("baseline", "native", ("run.json",), (), tuple(prompts))
        layer = self.chosen[1]
        last = {name: x[:, layer] for name, x in own.items()}
        return success(answers, own, last, layer=layer, limit=0.5)

    def transfer(self) -> dict[str, Any]:
        """A document of `polyrefuse direction transfer`."""
        position, layer = self.chosen
        n = len(self.languages)
        cosine = np.where(np.eye(n, dtype=bool), 1.0, 0.87).tolist()
        degrees = np.where(np.eye(n, dtype=bool), 0.0, 21.0)[..., None].repeat(2, -1).tolist()
        return {
            "model": self.model,
            "judge": "native",
            "sources": list(self.languages),
            "targets": list(self.languages),
            "baseline": [{"asr": 0.02 * place, "n": N} for place in range(n)],
            "cells": [{"asr": 0.99 - 0.003 * cell, "n": N} for cell in range(n * n)],
            "cosine_at": {"position": position, "layer": layer},
            "cosine": cosine,
            "cosine_by_layer": [None, *[cosine] * (self.layers - 1)],
            "explained_by_one": 0.91,
            "explained_by_one_by_layer": [None, *[0.91] * (self.layers - 1)],
            "principal_angles": {"degrees": degrees, "rank": 2},
        }

    def sweep(self) -> dict[str, Any]:
        """A document of `polyrefuse direction sweep`."""
        return {
            "model": self.model, "judge": "native", "languages": list(self.languages),
            "direction": {"layer": self.chosen[1], "norm": 12.3}
            | (CONTROL if self.control else {}),
            "overflowed": [2],
            "cells": [
                {"coefficient": c, "language": language, "n": N}
                | {"refused": int(N * c / 2), "degenerate": int(N * c / 8)}
                for c in (0, 0.5, 1, 2)
                for language in self.languages
            ],
        }  # fmt: skip

    def rank(self) -> dict[str, Any]:
        """A document of `polyrefuse direction rank`."""
        cells = []
        for k in (0, 1, 2, 5):
            for seed in (None, 0, 1) if k else (None,):
                for language in self.languages:
                    hits = min(N, 8 * k) if seed is None else 1
                    low, high = wilson(hits, N)
                    cells.append(
                        {"rank": k, "control_seed": seed, "language": language, "n": N}
                        | {"asr": hits / N, "low": low, "high": high}
                    )
        return {
            "model": self.model, "judge": "native", "languages": list(self.languages),
            "cells": cells, "ranks": [1, 2, 5],
            "carried": {
                name: None if place % 3 == 2 else 1 + place % 3
                for place, name in enumerate(self.languages)
            },
        }  # fmt: skip

    def trained(self) -> Any:
        """A soft prompt's training on three languages, one after the other."""
        languages = self.languages[:3]
        labels = torch.tensor([0.0] * N + [1.0] * N)

        def cloud(shift: float) -> dict[str, torch.Tensor]:
            apart = torch.stack([8 * labels, torch.zeros(2 * N)], 1) + torch.tensor([shift, 0.0])
            spread = torch.from_numpy(self.random.normal(size=(2 * N, 2))) * torch.tensor([2, 0.1])
            return {name: (apart + spread).float() for name in languages}

        probe = SimpleNamespace(weight=torch.tensor([1.0, 0.2, 0, 0]), bias=-4.0)
        other = SimpleNamespace(weight=torch.tensor([0.4, 0.0, 0, 0]), bias=-2.0)
        metadata = {
            "model": self.model, "languages": list(languages), "settings": {"mixed": False},
        }  # fmt: skip
        return SimpleNamespace(
            prompt=SimpleNamespace(metadata=metadata),
            measure=SimpleNamespace(refusal=probe, harmfulness=other),
            losses=[Terms(2 / (1 + i), 0.5, 0.001 * i, 1e-5 * i) for i in range(30)],
            labels=labels,
            before=cloud(0.0),
            after=cloud(3.0),
        )

    def board(self) -> list[Any]:
        """Records of a leaderboard under several conditions."""
        conditions = ("baseline", "system-prompt", "mcd", "ablation", "random-ablation", "addition")
        return with_means(
            [
                record(
                    language,
                    (3 * place + number) % (n + 1),
                    n,
                    model=self.model,
                    condition=condition,
                    dataset=dataset,
                    metric=metric,
                )  # fmt: skip
                for number, condition in enumerate(conditions)
                for place, language in enumerate(self.languages)
                for dataset, metric in (("harmful", "asr"), ("harmless", "false_refusal_rate"))
                for n in (N,)
            ]
        )

    def shared_transfer(self) -> Transfer:
        """What the leaderboard reads of the transfer report."""
        report = self.transfer()
        n = len(self.languages)
        asr = np.array([cell["asr"] for cell in report["cells"]]).reshape(n, n)
        return Transfer(
            given=self.model,
            model=self.model,
            dataset="harmful",
            judge="native",
            sources=self.languages,
            targets=self.languages,
            baseline=tuple(cell["asr"] for cell in report["baseline"]),
            refusals=((N, N),) * n,
            asr=tuple(map(tuple, asr.tolist())),
            cosine=tuple(map(tuple, report["cosine"])),
            position=-1,
            layer=self.chosen[1],
            path="transfer.json",
        )

    def figures(self) -> dict[str, Figure]:
        """Every figure of the commands, and every one of the leaderboard's, by name."""
        geometry, transfer, trained = self.geometry(), self.transfer(), self.trained()
        board = self.board()
        shared = self.shared_transfer()
        rows = [row for row in model_rows.rows(board) if row.balanced is not None]
        asr = {
            condition: {
                one.language: one
                for one in board
                if (one.metric, one.condition) == ("asr", condition)
            }
            for condition in dict.fromkeys(one.condition for one in board)
        }
        without_mean = {
            name: {code: one for code, one in of.items() if code != "mean"}
            for name, of in asr.items()
        }
        answers_layers = answers_layers_figure(geometry)
        assert answers_layers is not None
        panels = [(short_name(self.model), without_mean["baseline"], without_mean["ablation"])]
        return {
            "scores": scores_figure(self.direction()),
            "geometry": geometry_figure(geometry),
            "geometry_layers": geometry_layers_figure(geometry),
            "geometry_monitor": monitor_figure(geometry),
            "geometry_harmfulness": harmfulness_figure(geometry),
            "geometry_answers": answers_figure(geometry),
            "geometry_answers_layers": answers_layers,
            "transfer": transfer_figure(transfer),
            "cosine": cosine_figure(transfer),
            "universality": universality_figure(transfer),
            "sweep": sweep_figure(self.sweep()),
            "rank": rank_figure(self.rank()),
            "training": training_figure(trained),
            "states": states_figure(trained),
            "board-scatter": charts.scatter_figure(
                rows, [row.condition for row in rows], "harmful, judge native"
            ),
            "board-bars": charts.bars_figure(panels, "attack success", "harmful, judge native"),
            "board-conditions": charts.conditions_figure(
                asr, "attack success", f"{short_name(self.model)}: harmful, judge native"
            ),
            "board-transfer": charts.transfer_figure(shared),
            "board-cosine": charts.cosine_figure(shared),
        }


LARGE = Invented(
    "an-organisation-of-a-long-name/with-a-model-whose-name-is-even-longer-instruct-v1.5",
    ("en", *(code for code in POLYREFUSE if code != "en")),
    40,
    control=True,
)
SMALL = Invented("/a/folder/of/models/tiny-model", ("en", "de"), 4)
