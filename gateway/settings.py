"""The settings, read from environment variables: with the incumbent's name if it has one, otherwise with `PE_`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.cpus import usable_cpus

# Lists are separated by commas, as in the incumbent. `NoDecode`, because pydantic-settings expects JSON by default.
CommaList = Annotated[frozenset[str], NoDecode]

LogFormat = Literal["text", "json"]
ClientIdentity = Literal["key", "address", "none"]


class Settings(BaseSettings):
    """All settings. `__main__` and each worker read them once, and pass values to the objects that need them."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    # -- Address
    host: str = Field(
        default="0.0.0.0",
        validation_alias="HOST",
        description="Address to listen on. Default: all of IPv4, as in Roboflow's. `::`: all of IPv6 and IPv4.",
    )
    port: int = Field(
        default=9001,
        validation_alias="PORT",
        ge=0,
        le=65535,
        description="Port to listen on. The default is Roboflow's.",
    )
    num_workers: int = Field(
        default=1,
        validation_alias="NUM_WORKERS",
        ge=1,
        description="Worker processes on the port. Each has its own limits and cache; `/metrics` adds them up.",
    )
    allow_origins: CommaList = Field(
        default=frozenset({"*"}),
        validation_alias="ALLOW_ORIGINS",
        description="Web origins that browsers may call from (CORS), separated by commas. `*` allows all.",
    )
    keep_alive_seconds: int = Field(
        default=75,
        validation_alias="PE_KEEP_ALIVE_SECONDS",
        ge=1,
        description="Seconds to keep an idle connection. More than the proxy's: nginx 60, AWS 60, Google Cloud 600.",
    )
    root_path: str = Field(
        default="",
        validation_alias="PE_ROOT_PATH",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path prefix at which a proxy publishes the server, such as `/vision`. The proxy may strip it.",
    )

    # -- Models and access
    triton_url: str = Field(
        default="127.0.0.1:8001",
        validation_alias="PE_TRITON_URL",
        description="Triton's gRPC address: `host:port`, `unix:/path`, several with commas, or `dns:///name:port`.",
    )
    triton_tls: bool = Field(
        default=False,
        validation_alias="PE_TRITON_TLS",
        description="Whether to use TLS to Triton.",
    )
    triton_ca_file: Path | None = Field(
        default=None,
        validation_alias="PE_TRITON_CA_FILE",
        description="Certificates (PEM) that may sign Triton's. Unset: the public ones that gRPC contains.",
    )
    triton_certificate_file: Path | None = Field(
        default=None,
        validation_alias="PE_TRITON_CERTIFICATE_FILE",
        description="The gateway's own certificate (PEM), for a Triton that asks for one.",
    )
    triton_key_file: Path | None = Field(
        default=None,
        validation_alias="PE_TRITON_KEY_FILE",
        description="The key of that certificate (PEM, without a passphrase).",
    )
    triton_server_name: str | None = Field(
        default=None,
        validation_alias="PE_TRITON_SERVER_NAME",
        description="Name that Triton's certificate must have. Unset: the host in `PE_TRITON_URL`.",
    )
    triton_headers: SecretStr | None = Field(
        default=None,
        validation_alias="PE_TRITON_HEADERS",
        description="Headers of calls to Triton: `name=value`, separated by commas. For `--grpc-restricted-protocol`.",
    )
    api_keys: Annotated[frozenset[SecretStr], NoDecode] = Field(
        default=frozenset(),
        validation_alias="PE_API_KEYS",
        description="API keys, separated by commas. A request needs one of them. Unset: requests need no key.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        validation_alias="PE_API_KEYS_FILE",
        description="File of more API keys, one a line. It is read again when it changes.",
    )
    metrics_open: bool = Field(
        default=True,
        validation_alias="PE_METRICS_OPEN",
        description="Whether `/metrics` needs no key although other paths do.",
    )
    default_variant: str | None = Field(
        default=None,
        validation_alias="PERCEPTION_ENCODER_VERSION_ID",
        description="Variant for requests that name none. Unset: the only variant loaded, otherwise PE-Core-L14-336.",
    )

    # -- Page
    playground: bool = Field(
        default=True,
        validation_alias="PE_PLAYGROUND",
        description="Whether `/` serves a page to try the models in a browser.",
    )

    # -- Limits
    max_in_flight: int = Field(
        default=64,
        validation_alias="PE_MAX_IN_FLIGHT",
        ge=1,
        description="Maximum requests in flight for one client; for all together a quarter more. Above: 429, no queue.",
    )
    max_bytes_in_flight: int = Field(
        default=256 * 2**20,
        validation_alias="PE_MAX_BYTES_IN_FLIGHT",
        ge=1,
        description="Maximum bytes of bodies, images and responses of one client; for all a quarter more. Above: 429.",
    )
    max_fetches: int = Field(
        default=256,
        validation_alias="PE_MAX_FETCHES",
        ge=1,
        description="Maximum images being fetched by URL for one client; for all together a quarter more. Above: 429.",
    )
    client_identity: ClientIdentity = Field(
        default="key",
        validation_alias="PE_CLIENT_IDENTITY",
        description="What tells clients apart: the API `key` (without keys the address), the `address`, or `none`.",
    )
    max_connections: int | None = Field(
        default=None,
        validation_alias="PE_MAX_CONNECTIONS",
        ge=1,
        description="Maximum open connections of each worker. Unset: 3/4 of its file descriptors, at most 10,000.",
    )
    max_items: int = Field(
        default=64,
        validation_alias="CLIP_MAX_BATCH_SIZE",
        ge=1,
        description="Maximum images in one request, and, if set, maximum texts. Roboflow's default is 8.",
    )
    max_texts: int = Field(
        default=2048,
        validation_alias="PE_MAX_TEXTS",
        ge=1,
        description="Maximum texts in one request, as OpenAI's. `CLIP_MAX_BATCH_SIZE`, if set, bounds them too.",
    )
    max_body_bytes: int = Field(
        default=64 * 2**20,
        validation_alias="PE_MAX_BODY_BYTES",
        ge=1,
        description="Maximum bytes of a body. A larger one is refused with 413, if possible before it is read.",
    )
    max_image_pixels: int = Field(
        default=100_000_000,
        validation_alias="PE_MAX_IMAGE_PIXELS",
        ge=1,
        description="Maximum pixels of one image, as its decoder allocates them: a small file can decode to gigabytes.",
    )
    max_text_characters: int = Field(
        default=128_000,
        validation_alias="PE_MAX_TEXT_CHARACTERS",
        ge=1,
        description="Maximum characters of one text. Text beyond the context length is ignored, but costs CPU.",
    )
    deadline_seconds: float = Field(
        default=30,
        validation_alias="PE_DEADLINE_SECONDS",
        gt=0,
        description="Maximum seconds per request, upload included. Then the reply is 504 and the work is cancelled.",
    )
    drain_seconds: float = Field(
        default=3,
        validation_alias="PE_DRAIN_SECONDS",
        ge=0,
        description="Seconds to keep serving after SIGTERM while `/readiness` reports 503.",
    )
    decode_workers: int = Field(
        default_factory=usable_cpus,
        validation_alias="PE_DECODE_WORKERS",
        ge=1,
        description="Processes that decode and resize images, of each of `NUM_WORKERS`.",
    )
    decode_seconds: float = Field(
        default=5,
        validation_alias="PE_DECODE_SECONDS",
        gt=0,
        description="Maximum CPU seconds to decode one image. Above, its process is killed, and the reply is 400.",
    )
    decode_memory_bytes: int | None = Field(
        default=None,
        validation_alias="PE_DECODE_MEMORY_BYTES",
        ge=2**20,
        description="Memory for one image. Unset: 16 bytes for each of `PE_MAX_IMAGE_PIXELS`, and 128 MiB.",
    )

    # -- Cache
    text_cache_bytes: int = Field(
        default=64 * 2**20,
        validation_alias="PE_TEXT_CACHE_BYTES",
        ge=0,
        description="Memory for the cache of text embeddings. 0 disables the cache.",
    )

    # -- Image URLs
    allow_url_input: bool = Field(
        default=True, validation_alias="ALLOW_URL_INPUT", description="Whether images may be given by URL."
    )
    allow_non_https_url_input: bool = Field(
        default=False,
        validation_alias="ALLOW_NON_HTTPS_URL_INPUT",
        description="Whether image URLs may use plain http.",
    )
    allow_url_input_without_fqdn: bool = Field(
        default=False,
        validation_alias="ALLOW_URL_INPUT_WITHOUT_FQDN",
        description="Whether image URLs may name a host by its address or by a local name.",
    )
    allow_url_to_non_global_addresses: bool = Field(
        default=False,
        validation_alias="ALLOW_URL_TO_NON_GLOBAL_ADDRESSES",
        description="Whether image URLs may reach private, loopback or link-local addresses. Roboflow allows it.",
    )
    allowed_hosts: CommaList = Field(
        default=frozenset(),
        validation_alias="WHITELISTED_DESTINATIONS_FOR_URL_INPUT",
        description="The only hosts that image URLs may name, separated by commas. Unset: all hosts.",
    )
    denied_hosts: CommaList = Field(
        default=frozenset(),
        validation_alias="BLACKLISTED_DESTINATIONS_FOR_URL_INPUT",
        description="Hosts that image URLs may not name, separated by commas.",
    )
    max_redirects: int = Field(
        default=5,
        validation_alias="MAX_IMAGE_URL_REDIRECTS",
        ge=0,
        description="Maximum redirects per image. Each is checked like the first URL. Roboflow's server follows 30.",
    )
    url_timeout_seconds: float = Field(
        default=10,
        validation_alias="PE_URL_TIMEOUT_SECONDS",
        gt=0,
        description="Maximum seconds to fetch one image, with redirects.",
    )

    # -- Logs and traces
    log_format: LogFormat = Field(
        default="text",
        validation_alias="PE_LOG_FORMAT",
        description="`text`, or `json` for one JSON object per line. The access log's fields are JSON in both.",
    )
    traces: bool = Field(
        default=False,
        validation_alias="PE_TRACES",
        description="Whether to export OpenTelemetry traces. Its own variables configure them. Needs the extra `otel`.",
    )

    # -- Images as arrays
    allow_numpy_input: bool = Field(
        default=False,
        validation_alias="ALLOW_NUMPY_INPUT",
        description="Whether images may be numpy arrays. Pickled arrays are read without executing them.",
    )

    @property
    def text_limit(self) -> int:
        """The maximum of texts in one request. The incumbent's setting bounds them, too, where it is given."""
        return min(self.max_texts, self.max_items) if "max_items" in self.model_fields_set else self.max_texts

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, given: dict[str, object]) -> dict[str, object]:
        """Leave out variables that are empty, as Compose and Kubernetes make them of what is not set.

        `ALLOW_ORIGINS` alone says something when it is empty: no origin.
        """
        stripped = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
        return {name: value for name, value in stripped.items() if value != "" or name == "ALLOW_ORIGINS"}

    @field_validator("allow_origins", "allowed_hosts", "denied_hosts", "api_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(item.strip() for item in value.split(",") if item.strip())
        return value

    @field_validator("root_path", mode="before")
    @classmethod
    def _one_slash_in_front(cls, value: object) -> object:
        """Take `vision`, `/vision/` and `/` as people write them."""
        if isinstance(value, str):
            return "/" + value.strip("/") if value.strip("/") else ""
        return value

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        if self.max_bytes_in_flight < self.max_body_bytes:
            raise ValueError(
                "PE_MAX_BYTES_IN_FLIGHT is less than PE_MAX_BODY_BYTES, so a body of that size would always be refused"
            )
        return self
