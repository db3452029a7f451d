"""lm-eval's VLLM for refusal safety: the classes behind `baseline-vllm` and the other names.

Every argument of lm-eval's VLLM works, and so do the arguments of vLLM that it passes on. What all
engines share is in `measured`. What vLLM's own processes do to the model is in
`polyrefuse_models/vllm_engine`.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polyrefuse_models.anatomy import dissect
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.interventions import Intervention, SoftPrompt
from polyrefuse_models.neutral_generation import neutralise, settings_of
from polyrefuse_models.vllm_engine import calls
from polyrefuse_models.vllm_engine.arguments import engine_arguments, refuse_unusable
from polyrefuse_models.vllm_engine.plan import NotInVllm, plan_of, refusal
from polyrefuse_models.wrappers.asked import AskedAblation, AskedAddition, AskedMcd
from polyrefuse_models.wrappers.generation_settings import effective, requested
from polyrefuse_models.wrappers.known_model import KnownModel
from polyrefuse_models.wrappers.lm_evals_vllm import VLLM, vllm
from polyrefuse_models.wrappers.measured import Measured
from polyrefuse_models.wrappers.response_cache import AnswersByRequest
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

SHARED_WITH_HF = (
    *("revision", "dtype", "trust_remote_code", "tokenizer", "add_bos_token"),
    *("chat_template_args", "enable_thinking", "think_end_token", "max_length"),
)
"""The arguments of lm-eval's VLLM that lm-eval's HFLM has too."""

NOT_OF_VLLM = ("do_sample", "until", "max_gen_toks")
"""The generation settings that lm-eval translates for vLLM."""

OF_LM_EVAL = ("n", "stop", "max_tokens", "detokenize", "prompt_logprobs", "output_kind")
"""The settings of vLLM that lm-eval sets itself, or that make outputs which it cannot read."""


class BaselineVLLM(Measured, VLLM):
    """`baseline-vllm`: a chat model without an intervention, run by vLLM.

    The arguments `chat`, `system` and `system_file` are those of `wrappers.hf.BaselineHF`.

    Args:
        pretrained: the model's name on the hub, or a folder. The default is `polyrefuse-organism`.
        arguments: the arguments of the model name itself (`asks`), and every other argument of
            lm-eval's VLLM and of vLLM.

    Attributes:
        known: the model, as far as it is known without vLLM.

    Raises:
        UserError: an argument cannot be used, or would bypass the intervention.
    """

    think_end_token: str | int | None
    truncation = False

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        chat: str = "on",
        system: str | None = "template",
        system_file: str | None = None,
        **arguments: Any,
    ) -> None:
        self.read_asked(pretrained, arguments, chat=chat, system=system, system_file=system_file)
        refuse_unusable(arguments)
        if str(arguments.get("batch_size", 1)) == "1":
            # With lm-eval's default, vLLM would get one prompt at a time.
            arguments["batch_size"] = "auto"
        self.pretrained: str = self._folder(pretrained)
        self._like_hf = {"chat": chat, "system": system, "system_file": system_file} | {
            name: arguments[name] for name in SHARED_WITH_HF if arguments.get(name) is not None
        }
        self._given = arguments
        self.known = KnownModel(
            self.pretrained, arguments, warn=self.warn, whole_model=self.whole_model
        )
        self._prepare(
            self.known.tokenizer,
            template_arguments=self.known.chat_template_args,
            think_end_token=arguments.get("think_end_token"),
        )
        self.known.prompting = self.prompting
        self._set_aside(neutralise(self.known.model))
        interventions = self._with_system_file(self.asked.fit(self.known))
        self._start(interventions, arguments)
        self.known.max_length, self.known.prompt_ids = self.max_length, self.prompt_ids
        self._put_in_front(interventions)

    @contextmanager
    def whole_model(self) -> Iterator[ChatModel]:
        """Yield the model as transformers runs it, with its adapter.

        Raises:
            NotInVllm: vLLM would run another model.
        """
        from polyrefuse_models.wrappers.hf import BaselineHF

        for name in ("hf_overrides", "quantization"):
            if self._given.get(name):
                raise NotInVllm(
                    f"direction=auto would extract a direction from the model without {name}="
                    f"{self._given[name]}, but vLLM would run the model with it; extract the "
                    "direction beforehand and give direction=FOLDER."
                )
        split = any(
            int(self._given.get(name) or 1) > 1
            for name in ("tensor_parallel_size", "pipeline_parallel_size")
        )
        yield BaselineHF(
            self.pretrained,
            peft=self._given.get("lora_local_path"),
            parallelize=split and torch.cuda.device_count() > 1,
            **self._like_hf,
        ).chat_model

    def _start(self, interventions: Sequence[Intervention], arguments: dict[str, Any]) -> None:
        """Start vLLM with the interventions.

        Raises:
            NotInVllm: an intervention is not possible in vLLM.
        """
        self._soft = next((each for each in interventions if isinstance(each, SoftPrompt)), None)
        plan = plan_of(interventions, self.known.model)
        # Under data parallelism lm-eval starts engines again, so `self` keeps the folder.
        self._plan_folder = tempfile.TemporaryDirectory(prefix="polyrefuse-plan-")
        folder = Path(self._plan_folder.name)
        plan.save(folder)
        asked = engine_arguments(arguments, plan, folder, soft_prompt=self._soft is not None)
        # If a direction was extracted, the model that it came from still fills the GPU.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        with self._refusals():
            VLLM.__init__(self, pretrained=self.pretrained, **asked)
        self.tokenizer = self.known.tokenizer
        self.think_end_token = None
        if plan.hooks:
            calls.install(self.model, plan, folder, probe=self.prompting.ids("a b c"))
        if self._soft is not None:
            paths = {module: path for path, module in self.known.model.named_modules()}
            embedding = dissect(self.known.model).embedding
            # The vectors are scaled for transformers' embedding, which may multiply its rows.
            scale = calls.embedding_scale(self.model, paths[embedding]) / _scale(embedding)
            self._vectors = (self._soft.vectors.detach().cpu() * scale).to(self._dtype)
            self._rows = {token: row for row, token in enumerate(self._soft.ids.tolist())}
            generation: Any = self.known.model.generation_config
            generation.suppress_tokens = self._soft.ids.tolist()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Report why a worker could not load the model, which is otherwise only in its log.

        Raises:
            NotInVllm: a worker left a reason.
        """
        try:
            yield
        except Exception as error:
            if reason := refusal(Path(self._plan_folder.name)):
                raise NotInVllm(
                    f"vLLM cannot ablate {self.model_name} by weights: {reason}; use "
                    "method=hooks, or --model ablated-hf."
                ) from error
            raise

    # --- what results say

    def get_model_info(self) -> dict[str, Any]:
        """Return what HFLM returns, what was done to the model, and warnings for the reader."""
        config = self.known.model.config
        return {
            "model_num_parameters": self.known.model.num_parameters(),
            "model_dtype": self._dtype,
            "model_revision": self.known.revision,
            "model_sha": getattr(config, "_commit_hash", None) or "",
        } | self.measured()

    def identity(self) -> dict[str, Any]:
        """Return what an answer depends on besides the request: model, condition, settings."""
        return self.known.identity(self.interventions, self.reasoning.end, self._dtype)

    def generation_settings(self) -> dict[str, Any]:
        """Return the settings that every answer of the run was made with."""
        return effective(settings_of(self.known.model), self.notes.settings)

    @property
    def model_name(self) -> str:
        """The model's name in results."""
        return self.known.model_name

    @property
    def _dtype(self) -> torch.dtype:
        """The number type in which vLLM computes."""
        if self.data_parallel_size > 1:
            from vllm.engine.arg_utils import EngineArgs

            return EngineArgs(**self.model_args).create_model_config().dtype
        return self.model.llm_engine.model_config.dtype

    # --- how a prompt reaches the model

    @property
    def _scoring_window(self) -> int:
        return self.max_length - 2  # vLLM also reads the last token, and generates another.

    def prompt_ids(self, text: str) -> list[int]:
        """Return the ids that the model reads for a rendered prompt, with the text in front."""
        return [*self.prompting.foremost, *self.tok_encode(text)]

    # --- requests

    def _answers(self, rendered: list[Instance], disable_tqdm: bool) -> list[str]:
        """Have VLLM answer the requests, in one call for all that have the same settings."""
        places: dict[str, list[int]] = defaultdict(list)
        for place, request in enumerate(rendered):
            places[json.dumps(request.args[1], sort_keys=True)].append(place)
        answers = [""] * len(rendered)
        for alike in places.values():
            settings = rendered[alike[0]].args[1]
            _refuse_settings(requested(settings, self.max_gen_toks))
            assert isinstance(self.cache_hook, AnswersByRequest)
            self.cache_hook.settings = settings
            written = VLLM.generate_until(self, [rendered[i] for i in alike], disable_tqdm)
            for place, answer in zip(alike, written, strict=True):
                answers[place] = answer
        return answers

    def _model_generate(
        self,
        requests: list[list[int]],
        generate: bool = False,
        sampling_params: Any = None,
    ) -> Any:
        """Generate with a soft prompt's vectors in their places, and decode the answers here.

        vLLM's own text has the special tokens that HFLM leaves out, and lacks the bytes of an
        unfinished last character.
        """
        if generate:
            requests = [[*self.prompting.foremost, *ids] for ids in requests]
        if self._soft is None:
            with self._refusals():  # Under data parallelism the engines start here.
                outputs = super()._model_generate(requests, generate, sampling_params)
        else:
            outputs = self._generate_with_vectors(requests, generate, sampling_params)
        if generate:
            for output in outputs:
                (answer,) = output.outputs
                answer.text = self.reasoning.decode(list(answer.token_ids), self._decode)
        return outputs

    def _decode(self, tokens: list[int], skip_special_tokens: bool = True) -> str:
        """Decode an answer as HFLM does."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens))

    def _generate_with_vectors(
        self, requests: list[list[int]], generate: bool, sampling_params: Any
    ) -> Any:
        if not generate:  # VLLM itself scores with these settings.
            scoring = vllm.SamplingParams(
                temperature=0, prompt_logprobs=1, max_tokens=1, detokenize=False
            )
            sampling_params = [scoring] * len(requests)
        vocabulary = self.model.llm_engine.model_config.get_vocab_size()
        suppressed = {token: -100.0 for token in self._rows if token < vocabulary}
        for settings in sampling_params:
            settings.logit_bias = {**(settings.logit_bias or {}), **suppressed} or None
        return self.model.generate(
            [self._with_vectors(ids) for ids in requests],
            sampling_params=sampling_params,
            use_tqdm=self.batch_size == "auto",
            lora_request=self.lora_request,
        )

    def _with_vectors(self, ids: list[int]) -> dict[str, Any]:
        """Make a prompt for vLLM that has tokens for text, and vectors for the soft prompt.

        The tokens go through the embedding, which may be edited or have hooks.
        """
        rows, vectors = self._rows, self._vectors
        embedded = vectors.new_zeros(len(ids), vectors.shape[1])
        for place, token in enumerate(ids):
            if token in rows:
                embedded[place] = vectors[rows[token]]
        return {
            "prompt_embeds": embedded,
            "prompt_token_ids": [0 if token in rows else token for token in ids],
            "prompt_is_token_ids": [token not in rows for token in ids],
        }

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
    ) -> list[tuple[float, bool]]:
        """Score requests as VLLM does, with the safety prompt in front of every context.

        If a token begins every text, the safety prompt follows this token.

        Raises:
            UserError: a request is longer than the window. VLLM would cut off its beginning.
        """
        requests = self._behind_the_front(requests)
        return VLLM._loglikelihood_tokens(self, requests, disable_tqdm)


class AblatedVLLM(BaselineVLLM):
    """`ablated-vllm`: a chat model with its refusal direction ablated (2505.17306, eq. 3)."""

    asks = AskedAblation


class RefusalAddedVLLM(BaselineVLLM):
    """`refusal-added-vllm`: a chat model with its refusal direction added at one layer."""

    asks = AskedAddition


class McdVLLM(BaselineVLLM):
    """`mcd-vllm`: a chat model with a safety prompt, either soft (2505.11835) or in words."""

    asks = AskedMcd


def _refuse_settings(settings: dict[str, Any]) -> None:
    """Refuse generation settings that vLLM does not have, or that lm-eval would override.

    Raises:
        UserError: there is such a setting.
    """
    known = set(vllm.SamplingParams.__struct_fields__) - set(OF_LM_EVAL)
    for name in settings:
        if name not in (*known, *NOT_OF_VLLM):
            raise UserError(
                f"The vLLM models do not take the generation setting {name}={settings[name]}; use "
                "one of vLLM's SamplingParams that lm-eval does not set itself, or a Hugging Face "
                "model, such as --model baseline-hf."
            )


@torch.no_grad()
def _scale(embedding: torch.nn.Module) -> float:
    """Return the factor by which an embedding module of transformers multiplies its rows."""
    weight = embedding.weight
    assert isinstance(weight, torch.Tensor)
    ids = torch.arange(1, 4)
    return float((embedding(ids) * weight[ids]).sum() / weight[ids].square().sum())
