"""Asks a model behind an OpenAI-compatible chat endpoint, several requests at a time."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
import tenacity

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.judge_engines.engine import CannotJudge
from polyrefuse_tasks.judge_models.formats import Chat, Rendered

KEY = "OPENAI_API_KEY"
"""The environment variable with the key: it is given to the endpoint, and to nobody else."""

MOST_BYTES = 2**22
"""Of an answer of the endpoint."""

LONGEST_WAIT = 60.0
"""Seconds between two tries, whatever the endpoint asks for."""

_log = logging.getLogger(__name__)


class OutOfRequests(UserError):
    """The number of requests that was allowed is used up."""


class _Again(Exception):
    """A failure after which another try may do.

    Attributes:
        wait: seconds that the endpoint asks to wait; None where it does not say.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Asking:
    """Where a model is asked, and how much.

    Attributes:
        model: as the endpoint calls it.
        base_url: of the endpoint, as `http://localhost:8000/v1`.
        concurrency: requests at a time.
        timeout: seconds for a whole answer.
        tries: of a request that fails in a way that may pass.
        max_requests: in all, repeated ones too; None for any number.
    """

    model: str
    base_url: str
    concurrency: int = 8
    timeout: float = 120.0
    tries: int = 5
    max_requests: int | None = None


@dataclass
class Endpoint:
    """See `engine.Engine`; its answers come from elsewhere.

    Raises:
        CannotJudge: the address is none.
    """

    asking: Asking
    wait: Callable[[float], None] = time.sleep
    _made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        parts = urlsplit(self.asking.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CannotJudge(
                f"--base-url is {self.asking.base_url!r}, no address of a chat endpoint; give one "
                "as http://localhost:8000/v1."
            )
        if parts.username or parts.password or parts.query:
            raise CannotJudge(
                "--base-url holds a name, a password or a query, which would be written into "
                f"results; give the address alone, and the key in {KEY}."
            )

    @property
    def revision(self) -> str:
        """As `Engine.revision`: what a server runs under a name is not known."""
        return self.asking.model

    @property
    def settings(self) -> dict[str, Any]:
        """As `Engine.settings`."""
        return {"engine": "endpoint", "base_url": self.asking.base_url}

    def complete(self, prompts: Sequence[Rendered], max_new_tokens: int) -> list[str | None]:
        """As `Engine.complete`; every prompt is a chat.

        Raises:
            CannotJudge: the endpoint refuses, or fails again and again.
            OutOfRequests: `max_requests` were made.
        """
        if not prompts:
            return []
        if not self._made:
            _log.warning("prompts and answers leave this machine: they go to %s", self._host)
        self._stopped.clear()
        with ThreadPoolExecutor(self.asking.concurrency) as pool:
            waiting = [pool.submit(self._ask, prompt, max_new_tokens) for prompt in prompts]
            try:
                return [one.result() for one in waiting]
            except BaseException:
                # The others must not go on asking for what nobody waits for.
                self._stopped.set()
                for one in waiting:
                    one.cancel()
                raise

    def expected_number(self, prompts: Sequence[Rendered], numbers: Sequence[str]) -> list[float]:
        """
        Raises:
            CannotJudge: always: an endpoint gives no logits.
        """
        raise CannotJudge("this judge reads logits, which an endpoint does not give.")

    @property
    def _host(self) -> str:
        return urlsplit(self.asking.base_url).netloc

    def _ask(self, prompt: Rendered, max_new_tokens: int) -> str:
        assert isinstance(prompt, Chat)
        body = {
            "model": self.asking.model,
            "messages": list(prompt.messages),
            "max_tokens": max_new_tokens,
            "temperature": 0,
        }
        retry = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            stop=tenacity.stop_after_attempt(self.asking.tries),
            wait=_waiting,
            sleep=self.wait,
            reraise=True,
        )
        try:
            return retry(self._try, json.dumps(body).encode())
        except _Again as error:
            raise CannotJudge(
                f"{self._host} did not answer after {self.asking.tries} tries ({error}); the "
                "labels so far are kept: run the same command again when it does."
            ) from None

    def _try(self, body: bytes) -> str:
        if self._stopped.is_set():
            raise CannotJudge("another request failed.")
        self._count()
        end = time.monotonic() + self.asking.timeout
        try:
            with requests.post(
                f"{self.asking.base_url.rstrip('/')}/chat/completions",
                data=body,
                headers=self._headers(),
                timeout=self.asking.timeout,
                stream=True,
                allow_redirects=False,
            ) as answer:
                return self._read(answer, end)
        except requests.RequestException as error:
            raise _Again(type(error).__name__) from None

    def _count(self) -> None:
        with self._lock:
            if self._made == self.asking.max_requests:
                raise OutOfRequests(
                    f"{self._made} requests were made (--max-requests), and more answers are "
                    "without a label; the labels so far are kept: run the same command again to "
                    "go on."
                )
            self._made += 1

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(KEY)
        return {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )

    def _read(self, answer: requests.Response, end: float) -> str:
        """The text of an answer.

        Raises:
            _Again: it failed in a way that may pass.
            CannotJudge: it was refused.
        """
        code = answer.status_code
        if code == 429 or code >= 500:
            raise _Again(f"status {code}", _seconds(answer.headers.get("Retry-After")))
        content = b""
        # A server that drips bytes would otherwise never be late.
        for block in answer.iter_content(2**16):
            content += block
            if len(content) > MOST_BYTES:
                raise _Again("an answer of more than 4 MiB")
            if time.monotonic() > end:
                raise _Again(f"no whole answer within {self.asking.timeout:g} s")
        if code != 200:
            raise CannotJudge(
                f"{self._host} refused the request with status {code} ({_reason(content)}); check "
                f"--judge openai:MODEL, --base-url and {KEY}."
            )
        try:
            return _text(json.loads(content))
        except (ValueError, LookupError, TypeError, RecursionError):
            raise _Again("an answer that is no chat completion") from None


def _text(document: Any) -> str:
    """The text of a chat completion.

    Raises:
        ValueError, LookupError, TypeError: it is none.
    """
    content = document["choices"][0]["message"]["content"]
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        raise ValueError(content)
    return content


def _waiting(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: what the endpoint asks for, else 1, 2, 4 ..."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.wait if isinstance(failure, _Again) else None
    return min(LONGEST_WAIT, 2.0 ** (state.attempt_number - 1) if asked is None else asked)


def _seconds(header: str | None) -> float | None:
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e6 else None


def _reason(content: bytes) -> str:
    text = " ".join(content.decode("utf-8", "replace").split())
    return text[:200] or "no reason given"
