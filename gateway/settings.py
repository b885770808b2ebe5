"""All that can be configured, by environment variable: the incumbent's name where it has one, ``PE_`` for ours."""

import os
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# A comma list, as the incumbent writes it, and not JSON, which pydantic-settings would expect.
CommaList = Annotated[frozenset[str], NoDecode]

LogFormat = Literal["text", "json"]


def _available_cpus() -> int:
    return len(os.sched_getaffinity(0))


class Settings(BaseSettings):
    """Read once, in ``__main__``; everything else is handed what it needs."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    # -- where it listens
    host: str = Field(
        default="0.0.0.0",
        validation_alias="HOST",
        description="Address to listen on. All of them, as the incumbent: a container is reached from outside.",
    )
    port: int = Field(
        default=9001, validation_alias="PORT", ge=0, le=65535, description="Port to listen on; the incumbent's."
    )
    num_workers: int = Field(
        default=1,
        validation_alias="NUM_WORKERS",
        ge=1,
        description="Processes that share the port. Each has limits and a text cache of its own; metrics add up.",
    )
    allow_origins: CommaList = Field(
        default=frozenset({"*"}),
        validation_alias="ALLOW_ORIGINS",
        description="Web origins that browsers may call from (CORS), separated by commas; `*` is any.",
    )
    root_path: str = Field(
        default="",
        validation_alias="PE_ROOT_PATH",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path below which a proxy shows the server, such as `/vision`. The proxy may remove it or not.",
    )

    # -- what it serves
    triton_url: str = Field(
        default="127.0.0.1:8001",
        validation_alias="PE_TRITON_URL",
        description="Triton's gRPC address: `host:port`, several with commas; or `dns:///name:port`, all that it has.",
    )
    api_keys: Annotated[frozenset[SecretStr], NoDecode] = Field(
        default=frozenset(),
        validation_alias="PE_API_KEYS",
        description="Keys, separated by commas, of which a request needs one. Unset: none is needed.",
    )
    metrics_open: bool = Field(
        default=True,
        validation_alias="PE_METRICS_OPEN",
        description="Whether `/metrics` needs no key, where requests do.",
    )
    default_variant: str | None = Field(
        default=None,
        validation_alias="PERCEPTION_ENCODER_VERSION_ID",
        description="The variant that answers requests naming none. Unset: the only one loaded, else PE-Core-L14-336.",
    )

    playground: bool = Field(
        default=True,
        validation_alias="PE_PLAYGROUND",
        description="Whether `/` is a page to try the models on, in a browser.",
    )

    # -- how much it takes on
    max_in_flight: int = Field(
        default=64,
        validation_alias="PE_MAX_IN_FLIGHT",
        ge=1,
        description="Requests in flight; the next one is refused with 429, for waiting longer helps nobody.",
    )
    max_bytes_in_flight: int = Field(
        default=256 * 2**20,
        validation_alias="PE_MAX_BYTES_IN_FLIGHT",
        ge=1,
        description="Bytes of the bodies and fetched images in flight; a request that would exceed them is a 429.",
    )
    max_items: int = Field(
        default=64,
        validation_alias="CLIP_MAX_BATCH_SIZE",
        ge=1,
        description="Images, texts or prompts in one request. The incumbent's default is 8.",
    )
    max_body_bytes: int = Field(
        default=64 * 2**20,
        validation_alias="PE_MAX_BODY_BYTES",
        ge=1,
        description="Bytes of a request's body; more is a 413, mostly before any is read.",
    )
    max_image_pixels: int = Field(
        default=100_000_000,
        validation_alias="PE_MAX_IMAGE_PIXELS",
        ge=1,
        description="Pixels of one image, judged by its header: small files can hold images that fill the memory.",
    )
    max_text_characters: int = Field(
        default=128_000,
        validation_alias="PE_MAX_TEXT_CHARACTERS",
        ge=1,
        description="Characters of one text. All beyond the context length is cut anyway, but must be read first.",
    )
    deadline_seconds: float = Field(
        default=30,
        validation_alias="PE_DEADLINE_SECONDS",
        gt=0,
        description="Seconds that a request may last, its body's arrival included; then 504, and its work is dropped.",
    )
    drain_seconds: float = Field(
        default=3,
        validation_alias="PE_DRAIN_SECONDS",
        ge=0,
        description="Seconds that a gateway told to stop serves on, not ready: balancers need some to turn elsewhere.",
    )
    decode_threads: int = Field(
        default_factory=_available_cpus,
        validation_alias="PE_DECODE_THREADS",
        ge=1,
        description="Threads that decode and resize images. Default: one a CPU; they hold no lock while they work.",
    )

    text_cache_bytes: int = Field(
        default=64 * 2**20,
        validation_alias="PE_TEXT_CACHE_BYTES",
        ge=0,
        description="Memory for embeddings of texts that repeat, as prompts do; 0 turns it off.",
    )

    # -- image URLs
    allow_url_input: bool = Field(
        default=True, validation_alias="ALLOW_URL_INPUT", description="Whether images may be given by URL."
    )
    allow_non_https_url_input: bool = Field(
        default=False, validation_alias="ALLOW_NON_HTTPS_URL_INPUT", description="Whether such a URL may be plain http."
    )
    allow_url_input_without_fqdn: bool = Field(
        default=False,
        validation_alias="ALLOW_URL_INPUT_WITHOUT_FQDN",
        description="Whether such a URL may name a host by address or by a local name.",
    )
    allow_url_to_non_global_addresses: bool = Field(
        default=False,
        validation_alias="ALLOW_URL_TO_NON_GLOBAL_ADDRESSES",
        description="Whether URLs may lead to private, loopback or link-local addresses. The incumbent allows it.",
    )
    allowed_hosts: CommaList = Field(
        default=frozenset(),
        validation_alias="WHITELISTED_DESTINATIONS_FOR_URL_INPUT",
        description="The only hosts that URLs may name, separated by commas. Unset: any.",
    )
    denied_hosts: CommaList = Field(
        default=frozenset(),
        validation_alias="BLACKLISTED_DESTINATIONS_FOR_URL_INPUT",
        description="Hosts that URLs may not name, separated by commas.",
    )
    max_redirects: int = Field(
        default=5,
        validation_alias="MAX_IMAGE_URL_REDIRECTS",
        ge=0,
        description="Redirects that are followed, each judged like the first URL. The incumbent follows 30.",
    )
    url_timeout_seconds: float = Field(
        default=10,
        validation_alias="PE_URL_TIMEOUT_SECONDS",
        gt=0,
        description="Seconds that fetching one image may take, redirects included.",
    )

    # -- what it tells
    log_format: LogFormat = Field(
        default="text",
        validation_alias="PE_LOG_FORMAT",
        description="`text`, or `json`: each line an object. A request's own fields are JSON in both.",
    )

    traces: bool = Field(
        default=False,
        validation_alias="PE_TRACES",
        description="Whether OpenTelemetry gets traces; its own variables say where. Needs the extra `otel`.",
    )

    # -- images as arrays
    allow_numpy_input: bool = Field(
        default=False,
        validation_alias="ALLOW_NUMPY_INPUT",
        description="Whether images may be numpy arrays. They are read without executing what a pickle says.",
    )

    @field_validator("allow_origins", "allowed_hosts", "denied_hosts", "api_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(item.strip() for item in value.split(",") if item.strip())
        return value

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        if self.max_bytes_in_flight < self.max_body_bytes:
            raise ValueError("PE_MAX_BYTES_IN_FLIGHT is less than PE_MAX_BODY_BYTES: no such body could ever be taken")
        return self

    @field_validator("default_variant", mode="after")
    @classmethod
    def _empty_is_unset(cls, value: str | None) -> str | None:
        return value or None
