"""Asks a model behind an OpenAI-compatible chat endpoint, several requests at a time."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timezone
from email.utils import parsedate_to_datetime
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

LONGEST_TIMEOUT = 86400.0
"""Seconds; sockets and locks take no number that is much larger."""

FINISHED = ("stop", "length", "content_filter", "tool_calls", "function_call")
"""What OpenAI's API says of a completion that ended; others mark failures so, as `error`."""

WILL_NOT = re.compile(
    "content_filter|content_policy|ContentPolicyViolation|flagged as potentially violating"
    "|context_length_exceeded|maximum (context|model) length|available context size"
)
"""In the code or the message of a status 400: the fault is in this one request.

These are the words of Azure, OpenAI and LiteLLM for what they will not read, and of OpenAI, vLLM
and llama.cpp for what is too long."""

_log = logging.getLogger(__name__)


class OutOfRequests(UserError):
    """The number of requests that was allowed is used up."""


@dataclass(frozen=True)
class _Key(requests.auth.AuthBase):
    """The key of the environment; without one, nothing: requests would take one from ~/.netrc."""

    key: str | None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class _Again(Exception):
    """A failure after which another try may do.

    Attributes:
        wait: seconds that the endpoint asks to wait; None where it does not say.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Completion:
    """What an endpoint made of a prompt.

    Attributes:
        text: what the model wrote; None where it gave no text, and never will.
        reason: why there is no text.
    """

    text: str | None
    reason: str = ""


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
    """What `engine.Engine` is for a model here, without logits and with reasons for no text.

    Raises:
        CannotJudge: the address, the timeout or the key is none.
    """

    asking: Asking
    wait: Callable[[float], None] = time.sleep
    _made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        _check_address(self.asking.base_url)
        if not 0 < self.asking.timeout <= LONGEST_TIMEOUT:
            raise CannotJudge(
                f"--timeout is {self.asking.timeout}; give seconds, {LONGEST_TIMEOUT:g} at most."
            )
        if not re.fullmatch(r"[!-~]*", os.environ.get(KEY, "")):
            raise CannotJudge(
                f"{KEY} holds a space, a line break or another character that no key has; set it "
                "to the key alone."
            )

    @property
    def revision(self) -> str:
        """As `Engine.revision`: what a server runs under a name is not known."""
        return self.asking.model

    @property
    def settings(self) -> dict[str, Any]:
        """As `Engine.settings`."""
        return {"engine": "endpoint", "base_url": self.asking.base_url.rstrip("/")}

    @property
    def remaining(self) -> int | None:
        """Requests that may still be made; None for any number."""
        most = self.asking.max_requests
        return None if most is None else most - self._made

    def complete(self, prompts: Sequence[Rendered], max_new_tokens: int) -> list[Completion]:
        """Completions at temperature 0, in the order of the prompts; every prompt is a chat.

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

    @staticmethod
    def tells_key(text: str) -> bool:
        """Whether a text holds the key, which is written nowhere."""
        return any(form in text for form in _forms_of_key())

    @property
    def _host(self) -> str:
        return urlsplit(self.asking.base_url).netloc

    @property
    def _late(self) -> str:
        return f"no whole answer within {self.asking.timeout:g} s"

    def _ask(self, prompt: Rendered, max_new_tokens: int) -> Completion:
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

    def _try(self, body: bytes) -> Completion:
        if self._stopped.is_set():
            raise CannotJudge("another request failed.")
        self._count()
        # The timeout of requests is one of each read, and of neither a look-up of a name nor the
        # headers as a whole. A thread that is late is left to itself: it ends with its connection,
        # and does not keep the process.
        given: Future[Completion] = Future()
        threading.Thread(target=self._answer, args=(body, given), daemon=True).start()
        wait([given], self.asking.timeout)
        if not given.done():
            raise _Again(self._late)
        return given.result()

    def _answer(self, body: bytes, given: Future[Completion]) -> None:
        try:
            given.set_result(self._request(body))
        except BaseException as error:
            given.set_exception(error)

    def _request(self, body: bytes) -> Completion:
        end = time.monotonic() + self.asking.timeout
        try:
            with requests.post(
                f"{self.asking.base_url.rstrip('/')}/chat/completions",
                data=body,
                headers={"Content-Type": "application/json"},
                auth=_Key(os.environ.get(KEY)),
                timeout=self.asking.timeout,
                stream=True,
                allow_redirects=False,
            ) as answer:
                return self._read(answer, end)
        except requests.Timeout:
            raise _Again(self._late) from None
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

    def _read(self, answer: requests.Response, end: float) -> Completion:
        """What an answer says.

        Raises:
            _Again: it failed in a way that may pass.
            CannotJudge: it was refused, as every other request will be.
        """
        code = answer.status_code
        if code == 429 or code >= 500:
            raise _Again(f"status {code}", _seconds(answer.headers.get("Retry-After")))
        content = bytearray()
        # Small blocks: a server that drips bytes would fill a large one long after the end.
        for block in answer.iter_content(2**8):
            content += block
            if len(content) > MOST_BYTES:
                raise _Again("an answer of more than 4 MiB")
            if time.monotonic() > end:
                raise _Again(self._late)
        document: Any = None
        said = content.decode("utf-8", "replace")
        # It may be no JSON: what then is quoted is the text as it is.
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(content)
            # Without escapes, in which the key could not be found.
            said = json.dumps(document, ensure_ascii=False)
        if code == 400 and _is_of_this_request(document):
            return Completion(None, f"the endpoint refused to judge it: {_quoted(said)}")
        if code != 200:
            raise CannotJudge(
                f"{self._host} refused the request with status {code} ({_quoted(said)}); check "
                f"--judge openai:MODEL, --base-url and {KEY}."
            )
        try:
            return _completion(document)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _Again("an answer that is no chat completion") from None


def _check_address(url: str) -> None:
    """Raises:
    CannotJudge: no request can be made to it, or it says more than where to.
    """
    try:
        parts = urlsplit(url)
        prepared = requests.Request("POST", url).prepare()
        host = urlsplit(str(prepared.url)).hostname or ""
        # As the look-up of a name does it, which names the parts that are empty or too long.
        host.encode("idna")
        is_address = parts.scheme in ("http", "https") and host != "" and parts.port != 0
    except (ValueError, requests.RequestException):
        is_address = False
    if not is_address:
        # What is no address cannot be read: any part of it may be a password.
        shown = "" if set("@?#") & set(url) else f" {url!r}"
        raise CannotJudge(
            f"--base-url{shown} is no address of a chat endpoint; give one as "
            "http://localhost:8000/v1."
        )
    if "@" in parts.netloc or set("?#") & set(url):
        raise CannotJudge(
            "--base-url holds a name, a password, a query or a fragment, which would be written "
            f"into results; give the address alone, and the key in {KEY}."
        )


def _is_of_this_request(document: Any) -> bool:
    """Whether the error that the endpoint tells is one of what it was asked to judge."""
    if not isinstance(document, dict):
        return False
    # Older versions of vLLM send the error alone.
    error = document.get("error", document)
    if not isinstance(error, dict):
        return False
    return WILL_NOT.search(f"{error.get('code')} {error.get('message')}") is not None


def _completion(document: Any) -> Completion:
    """A chat completion.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is none.
    """
    choice = document["choices"][0]
    content = choice["message"].get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    finished, refusal = choice.get("finish_reason"), choice["message"].get("refusal")
    if finished == "content_filter":
        return Completion(None, "the endpoint filtered its verdict (content_filter)")
    if isinstance(refusal, str) and refusal:
        return Completion(None, f"the endpoint refused to judge it: {_quoted(refusal)}")
    if content in (None, "") and finished in FINISHED:
        return Completion(None, f"the endpoint gave no verdict (finish_reason {finished})")
    if not isinstance(content, str):
        raise ValueError(content)
    return Completion(content)


def _waiting(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: what the endpoint asks for, else 1, 2, 4 ..."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.wait if isinstance(failure, _Again) else None
    return min(LONGEST_WAIT, 2.0 ** (state.attempt_number - 1) if asked is None else asked)


def _seconds(header: str | None) -> float | None:
    """What `Retry-After` asks for, as a number or as a date; None where that is no time to come."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            date = parsedate_to_datetime(header or "")
            # One of its three forms names no zone; all are in GMT.
            date = date.replace(tzinfo=date.tzinfo or timezone.utc)
            seconds = date.timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return seconds if seconds >= 0 else None


def _forms_of_key() -> list[str]:
    """The key as it is, and before it as in JSON, where a quote or a backslash is escaped."""
    key = os.environ.get(KEY)
    return [json.dumps(key)[1:-1], key] if key else []


def _quoted(said: str) -> str:
    """What the endpoint says, for a message; it may repeat the key that it was given."""
    for form in _forms_of_key():
        said = said.replace(form, f"[{KEY}]")
    return " ".join(said.split())[:200] or "no reason given"
