"""Ask a model behind an OpenAI-compatible chat endpoint, with several requests at a time."""

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
"""The environment variable with the key, which is sent only to the endpoint."""

MOST_BYTES = 2**22
"""The largest answer of the endpoint, in bytes."""

LONGEST_WAIT = 60.0
"""The longest wait between two tries, in seconds, whatever the endpoint asks for."""

LONGEST_TIMEOUT = 86400.0
"""The longest timeout, in seconds: sockets and locks do not accept much larger numbers."""

FINISHED = ("stop", "length", "content_filter", "tool_calls", "function_call")
"""The finish reasons of OpenAI's API for a completion that ended; others may mean a failure."""

WILL_NOT = re.compile(
    "content_filter|content_policy|ContentPolicyViolation|flagged as potentially violating"
    "|context_length_exceeded|maximum (context|model) length|available context size"
)
"""Words in the code or message of a status 400 which say that the fault is in this one request.

Azure, OpenAI and LiteLLM use them for content that they refuse, and OpenAI, vLLM and llama.cpp for
content that is too long."""

_log = logging.getLogger(__name__)


class OutOfRequests(UserError):
    """All requests that `--max-requests` allows were made."""


@dataclass(frozen=True)
class _Key(requests.auth.AuthBase):
    """The key of the environment, or no key at all: requests would take one from ~/.netrc."""

    key: str | None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class _Again(Exception):
    """A failure after which another try may succeed.

    Attributes:
        wait: how many seconds the endpoint asks to wait; None if it does not say.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Completion:
    """The result of a prompt that was sent to an endpoint.

    Attributes:
        text: the text of the model; None if it gives no text even when it is asked again.
        reason: why there is no text.
    """

    text: str | None
    reason: str = ""


@dataclass(frozen=True)
class Asking:
    """The settings for asking a model behind an endpoint.

    Attributes:
        model: the name of the model at the endpoint.
        base_url: the URL of the endpoint, such as `http://localhost:8000/v1`.
        concurrency: the number of requests that run at the same time.
        timeout: the time that a whole answer may take, in seconds.
        tries: the number of times that a request is tried if it fails temporarily.
        max_requests: the most requests, repeated ones included; None for any number.
    """

    model: str
    base_url: str
    concurrency: int = 8
    timeout: float = 120.0
    tries: int = 5
    max_requests: int | None = None


@dataclass
class Endpoint:
    """The counterpart of `engine.Engine` for an endpoint, which has no logits but gives reasons.

    Raises:
        CannotJudge: the address, the timeout or the key is not valid.
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
                f"--timeout is {self.asking.timeout}; give a number of seconds, "
                f"{LONGEST_TIMEOUT:g} at most."
            )
        if not re.fullmatch(r"[!-~]*", os.environ.get(KEY, "")):
            raise CannotJudge(
                f"{KEY} contains a space, a line break or another character that no key has: set "
                "it to the key alone."
            )

    @property
    def revision(self) -> str:
        """The name of the model, because a server does not say what it runs under this name."""
        return self.asking.model

    @property
    def settings(self) -> dict[str, Any]:
        """See `Engine.settings`."""
        return {"engine": "endpoint", "base_url": self.asking.base_url.rstrip("/")}

    @property
    def remaining(self) -> int | None:
        """How many requests may still be made; None for any number."""
        most = self.asking.max_requests
        return None if most is None else most - self._made

    def complete(self, prompts: Sequence[Rendered], max_new_tokens: int) -> list[Completion]:
        """Complete prompts, all of which are chats, at temperature 0 and in their order.

        Raises:
            CannotJudge: the endpoint refuses the request, or fails repeatedly.
            OutOfRequests: `max_requests` were made.
        """
        if not prompts:
            return []
        if not self._made:
            _log.warning("Prompts and answers leave this machine: they are sent to %s.", self._host)
        self._stopped.clear()
        with ThreadPoolExecutor(self.asking.concurrency) as pool:
            waiting = [pool.submit(self._ask, prompt, max_new_tokens) for prompt in prompts]
            try:
                return [one.result() for one in waiting]
            except BaseException:
                # Nobody waits for the other requests any more.
                self._stopped.set()
                for one in waiting:
                    one.cancel()
                raise

    @staticmethod
    def tells_key(text: str) -> bool:
        """Return whether a text contains the key, which must never be written."""
        return any(form in text for form in _forms_of_key())

    @property
    def _host(self) -> str:
        return urlsplit(self.asking.base_url).netloc

    @property
    def _late(self) -> str:
        return f"no complete answer within {self.asking.timeout:g} s"

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
                f"{self._host} did not answer in {self.asking.tries} tries ({error}). The labels "
                "so far are saved: run the same command again when it answers."
            ) from None

    def _try(self, body: bytes) -> Completion:
        if self._stopped.is_set():
            raise CannotJudge("Another request failed.")
        self._count()
        # The timeout of the library `requests` applies to each read, but not to the name look-up or
        # to the headers as a whole. A late thread is abandoned: it ends with its connection and
        # does not keep the process alive.
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
                    "without a label. The labels so far are saved: run the same command again to "
                    "continue."
                )
            self._made += 1

    def _read(self, answer: requests.Response, end: float) -> Completion:
        """Read an answer of the endpoint.

        Raises:
            _Again: the request failed temporarily.
            CannotJudge: the endpoint refused the request, and will refuse every other one.
        """
        code = answer.status_code
        if code == 429 or code >= 500:
            raise _Again(f"status {code}", _seconds(answer.headers.get("Retry-After")))
        content = bytearray()
        # The blocks are small, because a slow server might fill a large one long after the timeout.
        for block in answer.iter_content(2**8):
            content += block
            if len(content) > MOST_BYTES:
                raise _Again("an answer of more than 4 MiB")
            if time.monotonic() > end:
                raise _Again(self._late)
        document: Any = None
        said = content.decode("utf-8", "replace")
        # If it is not JSON, the text is quoted as it is.
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(content)
            # Escapes are removed, because the key could not be found in them.
            said = json.dumps(document, ensure_ascii=False)
        if code == 400 and _is_of_this_request(document):
            return Completion(None, f"the endpoint refused to judge it: {_quoted(said)}")
        if code != 200:
            raise CannotJudge(
                f"{self._host} refused the request with status {code} ({_quoted(said)}): check "
                f"--judge openai:MODEL, --base-url and {KEY}."
            )
        try:
            return _completion(document)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _Again("an answer that is not a chat completion") from None


def _check_address(url: str) -> None:
    """Refuse a URL that is not the plain address of an endpoint.

    Raises:
        CannotJudge: no request can be sent to it, or it contains more than an address.
    """
    try:
        parts = urlsplit(url)
        prepared = requests.Request("POST", url).prepare()
        host = urlsplit(str(prepared.url)).hostname or ""
        # The name look-up does the same, and fails for parts that are empty or too long.
        host.encode("idna")
        is_address = parts.scheme in ("http", "https") and host != "" and parts.port != 0
    except (ValueError, requests.RequestException):
        is_address = False
    if not is_address:
        # Any part of something that is not an address may be a password.
        shown = "" if set("@?#") & set(url) else f" {url!r}"
        raise CannotJudge(
            f"--base-url{shown} is not the address of a chat endpoint: give one such as "
            "http://localhost:8000/v1."
        )
    if "@" in parts.netloc or set("?#") & set(url):
        raise CannotJudge(
            "--base-url contains a user name, a password, a query or a fragment, which would be "
            f"written into results: give only the address, and set {KEY} to the key."
        )


def _is_of_this_request(document: Any) -> bool:
    """Return whether the error of the endpoint is due to the content of this one request."""
    if not isinstance(document, dict):
        return False
    # Older versions of vLLM send the error alone.
    error = document.get("error", document)
    if not isinstance(error, dict):
        return False
    return WILL_NOT.search(f"{error.get('code')} {error.get('message')}") is not None


def _completion(document: Any) -> Completion:
    """Read a chat completion.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is not a chat completion.
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
    """Return the seconds until the next try: those of the endpoint, or 1, 2, 4, ..."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.wait if isinstance(failure, _Again) else None
    return min(LONGEST_WAIT, 2.0 ** (state.attempt_number - 1) if asked is None else asked)


def _seconds(header: str | None) -> float | None:
    """Read `Retry-After`, a number or a date, into seconds; None if it is not in the future."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            date = parsedate_to_datetime(header or "")
            # One of its three forms has no zone, and all of them are in GMT.
            date = date.replace(tzinfo=date.tzinfo or timezone.utc)
            seconds = date.timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return seconds if seconds >= 0 else None


def _forms_of_key() -> list[str]:
    """Return the key in its JSON form, with escaped quotes and backslashes, and as it is."""
    key = os.environ.get(KEY)
    return [json.dumps(key)[1:-1], key] if key else []


def _quoted(said: str) -> str:
    """Quote a text of the endpoint in a message, without the key, which it may repeat."""
    for form in _forms_of_key():
        said = said.replace(form, f"[{KEY}]")
    return " ".join(said.split())[:200] or "no reason given"
