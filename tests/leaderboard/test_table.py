"""`polyrefuse_leaderboard.table`: rows, columns and names, and the Markdown and LaTeX of them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from polyrefuse_leaderboard import model_rows
from polyrefuse_leaderboard.latex import to_latex
from polyrefuse_leaderboard.markdown import to_markdown
from polyrefuse_leaderboard.records import MEAN
from polyrefuse_leaderboard.table import Subject, name_subjects, subject_of, tabulate

from tests.leaderboard.invented import record, with_means

MARKUP = "<b>a|b</b> `c` *d* _e_ [f](g) #h $i$ \\j ~k~ {l} m^2 n%\n## o & p\\"

# 3 of 10 in German and 8 of 10 in English; Wilson's intervals from scipy 1.17's binomtest.
CELLS = with_means([record("de", 3), record("en", 8)])


class TestTables:
    def test_rows_and_columns(self) -> None:
        made = tabulate(
            [
                *CELLS,
                record("yo", 2, condition="ablation"),
                record("de", 1, model="another/model"),
                record("de", 1, metric="refusal_rate"),
                record("de", 1, metric="false_refusal_rate", dataset="harmless"),
                record("de", 1, judge="wildguard"),
            ]
        )
        assert [(one.metric, one.dataset, one.judge) for one in made] == [
            ("asr", "harmful", "native"),
            ("asr", "harmful", "wildguard"),
            ("false_refusal_rate", "harmless", "native"),
            ("refusal_rate", "harmful", "native"),
        ]
        first = made[0]
        assert first.languages == (MEAN, "de", "en", "yo")
        assert [(about.model, about.condition) for about in first.rows] == [
            ("another/model", "baseline"),
            ("invented/model-1", "baseline"),
            ("invented/model-1", "ablation"),
        ]
        assert first.rows[subject_of(CELLS[0])]["en"] is CELLS[1]

    def test_a_name_says_no_more_than_it_must(self) -> None:
        one = Subject("m", "main", "mcd", "ab" * 8, "01" * 8)
        assert name_subjects([[one]]) == {one: ("m", "mcd")}
        other = replace(one, intervention="cd" * 8)
        assert name_subjects([[one, other]]) == {
            one: ("m", "mcd ababab"),
            other: ("m", "mcd cdcdcd"),
        }
        # In different tables they are not mixed up.
        assert name_subjects([[one], [other]]) == {one: ("m", "mcd"), other: ("m", "mcd")}
        slow = replace(one, generation="23" * 8)
        assert name_subjects([[one, slow]])[slow] == ("m", "mcd, generation 232323")
        old = replace(one, revision="v1")
        assert name_subjects([[one, old]]) == {one: ("m @ main", "mcd"), old: ("m @ v1", "mcd")}


class TestMarkdown:
    def test_a_cell_is_rate_interval_and_n(self) -> None:
        text = to_markdown("Title", tabulate(CELLS), model_rows.rows(CELLS), left_out=["said"])
        assert (
            "| invented/model-1 | baseline | 55.0 (29.9 to 77.3, n = 20) | "
            "30.0 (10.8 to 60.3, n = 10) | 80.0 (49.0 to 94.3, n = 10) |" in text
        )
        assert "| model | condition | mean | de | en |" in text
        assert "balanced score = 2 (1 - ASR) (1 - FRR) / ((1 - ASR) + (1 - FRR))" in text
        assert text.endswith("\n- said\n")

    def test_every_line_of_a_table_has_as_many_cells(self) -> None:
        cells = with_means([record("de", 3, model=MARKUP), record(MARKUP, 8, judge=MARKUP)])
        text = to_markdown(MARKUP, tabulate(cells), model_rows.rows(cells), left_out=[MARKUP])
        blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
        assert len(blocks) == 3
        for block in blocks:
            counts = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines()}
            assert len(counts) == 1

    def test_names_are_text(self) -> None:
        markdown = pytest.importorskip("markdown_it", reason="rich brings markdown-it-py")
        cells = with_means([record("de", 3, model=MARKUP, dataset=MARKUP, judge=MARKUP)])
        text = to_markdown(MARKUP, tabulate(cells), model_rows.rows(cells), left_out=[MARKUP])
        parser = markdown.MarkdownIt("commonmark").enable("table")
        found = parser.parse(text)
        texts = [
            token.content
            for block in found
            for token in block.children or ()
            if token.type in ("text", "text_special")
        ]
        kinds = {token.type for block in found for token in block.children or ()}
        # The formula is code; nothing of the names is.
        assert kinds == {"text", "code_inline"}
        assert sum(" ".join(MARKUP.split()) in text for text in texts) >= 4


class TestLatex:
    def test_a_cell_is_rate_interval_and_n(self) -> None:
        text = to_latex(tabulate(CELLS), model_rows.rows(CELLS))
        assert (
            r"invented/model-1 & baseline & \rate{55.0}{29.9}{77.3}{20} & "
            r"\rate{30.0}{10.8}{60.3}{10} & \rate{80.0}{49.0}{94.3}{10} \\" in text
        )
        assert r"\begin{longtable}{ll*{3}{c}}" in text
        assert text.count(r"\begin{") == text.count(r"\end{")

    def test_names_are_text(self) -> None:
        cells = [record("de", 3, model=MARKUP, dataset=MARKUP, judge=MARKUP)]
        (line,) = [
            line
            for line in to_latex(tabulate(cells), model_rows.rows(cells)).splitlines()
            if "baseline" in line
        ]
        name, _, _ = re.split(r"(?<!\\)&", line)
        bare = re.sub(r"\\text\w+\{\}|\{[\[\]]\}|\\[{}$&#_%]", "", name)
        assert not set(bare) & set('\\{}$&#^_~%<>|"')
        assert r"\textless{}b\textgreater{}a\textbar{}b" in name
        assert r"n\% \#\# o \& p\textbackslash{}" in name

    def test_braces_are_balanced(self) -> None:
        cells = [record(MARKUP, 3, model="}{" + MARKUP)]
        text = re.sub(r"\\[{}]", "", to_latex(tabulate(cells), model_rows.rows(cells)))
        depth = 0
        for letter in text:
            depth += (letter == "{") - (letter == "}")
            assert depth >= 0
        assert depth == 0
