"""The options of `vllm serve` and their values, as its own parser knows them: written by `make vllm-options`, classes
by hand.

`max-model-len=1` is the option `--max-model-len` with one value; `tensor-parallel-size,-tp=1` has a second name. What
an option takes: `0` nothing; `b` nothing, and it has a `--no-` form; `1` a value; `?` at most one; `+` one or more;
`j` one value in JSON, which may also come key by key (`--option.key value`).
"""

from collections.abc import Mapping

VERSION = "0.32.0"
"""The version of vLLM that this is the table of."""

TABLE: Mapping[str, str] = {
    "free": """
aggregate-engine-logging=0 all2all-backend=1 allow-deprecated-quantization=b allowed-media-domains=+
anthropic-disabled-thinking-effort=1 api-server-count,-asc=1 async-scheduling=b attention-backend=1
attention-config,-ac=j aux-output-config=j block-size=1 chat-template-content-format=1 chat-template=1
code-revision=1 cohere-format=1 cohere-is-reasoning-model=b compilation-config,-cc=j config-format=1 convert=1
cp-kv-cache-interleave-size=1 cpu-distributed-timeout-seconds=1 cpu-offload-gb=1 cpu-offload-params=+
cudagraph-capture-sizes=+ cudagraph-metrics=b custom-histogram-buckets=j data-parallel-size,-dp=1
dbo-decode-token-threshold=1 dbo-prefill-token-threshold=1 dcp-comm-backend=1 dcp-kv-cache-interleave-size=1
dcp-q-replicate=b decode-context-parallel-size,-dcp=1 default-chat-template-kwargs=j default-mm-loras=j device-ids=1
diffusion-config,-dc=j disable-access-log-for-endpoints=1 disable-cascade-attn=b disable-chunked-mm-input=b
disable-custom-all-reduce=b disable-fastapi-docs=b disable-hybrid-kv-cache-manager=b disable-log-stats=0
disable-nccl-for-dp-synchronization=b disable-sliding-window=b disable-uvicorn-access-log=b
distributed-timeout-seconds=1 dp-sync-interval=1 dtype=1 enable-auto-tool-choice=b enable-batch-sharded-sampling=b
enable-chunked-prefill=b enable-cumem-allocator=b enable-dbo=b enable-ep-weight-filter=b enable-eplb=b
enable-expert-parallel,-ep=b enable-fault-tolerance=b enable-flash-late-interaction=b enable-flashinfer-autotune=b
enable-force-include-usage=b enable-hc-sp=b enable-layerwise-nvtx-tracing=b enable-log-deltas=b enable-log-outputs=b
enable-log-requests=b enable-logging-iteration-details=b enable-lora=b enable-mamba-cache-stochastic-rounding=b
enable-mamba-shared-prefix-checkpoint=b enable-mfu-metrics=b enable-mixed-moe-lora-format=b enable-mm-embeds=b
enable-moe-shared-loras=b enable-nccl-comm-suspend=b enable-offline-docs=b enable-per-request-metrics=b
enable-prefix-caching=b enable-prompt-embeds=b enable-prompt-tokens-details=b enable-request-id-headers=b
enable-return-routed-experts=b enable-server-load-tracking=b enable-shm-tensor-arena=b enable-sleep-mode=b
enable-tokenizer-info-endpoint=b enable-tower-connector-lora=b enforce-eager=b engram-config=j eplb-config=j
exclude-tools-when-tool-choice-none=b expert-placement-strategy=1 fail-on-environ-validation=b
fault-tolerance-config=j fingerprint-mode=1 fingerprint-value=1 fully-sharded-loras=b gdn-prefill-backend=1
generation-config=1 gpu-memory-utilization,--device-memory-utilization=1 h11-max-header-count=1
h11-max-incomplete-event-size=1 hf-config-path=1 hf-overrides=j ignore-patterns=+ interleave-mm-strings=b
ir-op-priority=j jit-monitor-mode=1 jit-monitor-verbose=b kda-decode-backend=1 kda-prefill-backend=1 kernel-config=j
kv-cache-dtype-skip-layers=+ kv-cache-dtype=1 kv-cache-memory-bytes=1 kv-cache-metrics-sample=1 kv-cache-metrics=b
kv-offloading-backend=1 kv-offloading-size=1 kv-sharing-fast-prefill=b language-model-only=b limit-mm-per-prompt=j
linear-backend=1 load-format=1 log-error-stack=b log-level=1 logprobs-mode=1 long-prefill-token-threshold-adaptive=b
long-prefill-token-threshold=1 lora-dtype=1 lora-modules=+ lora-target-modules=+ mamba-backend=1 mamba-block-size=1
mamba-cache-dtype=1 mamba-cache-mode=1 mamba-cache-philox-rounds=1 mamba-ssm-cache-dtype=1 mamba-ssu-algorithm=1
max-cpu-loras=1 max-cudagraph-capture-size=1 max-log-len=1 max-logprobs=1 max-lora-cls-labels=1 max-lora-rank=1
max-loras=1 max-model-len=1 max-num-active-seqs=1 max-num-batched-tokens=1 max-num-queued-reqs=1
max-num-queued-tokens=1 max-num-scheduled-tokens=1 max-num-seqs=1 max-parallel-loading-workers=1 media-io-kwargs=j
mm-device-do-normalize=b mm-encoder-attn-backend=1 mm-encoder-attn-dtype=1 mm-encoder-fp8-scale-save-margin=1
mm-encoder-only=b mm-encoder-tp-mode=1 mm-hasher-algorithm=1 mm-ipc-gpu-memory-gb=1 mm-processor-cache-gb=1
mm-processor-cache-type=1 mm-processor-device=1 mm-processor-kwargs=j mm-shm-cache-max-object-size-mb=1
mm-tensor-ipc=1 model-impl=1 model-loader-extra-config=j moe-backend=1 num-gpu-blocks-override=1 numa-bind-cpus=+
numa-bind-nodes=+ numa-bind=b offload-backend=1 offload-group-size=1 offload-num-in-group=1 offload-params=+
offload-prefetch-step=1 optimization-level=1 override-generation-config=j per-request-spec-decode-metrics=1
performance-mode=1 pipeline-parallel-size,-pp=1 pooler-config=j prefill-context-parallel-size,-pcp=1
prefill-schedule-interval=1 prefix-cache-retention-interval=1 prefix-caching-hash-algo=1 prefix-match-unit=1
quantization,-q=1 quantization-config=j reasoning-config=j reasoning-parser=1 renderer-num-workers=1
replayssm-buffer-len=1 response-role=1 return-sampling-mask=b return-tokens-as-token-ids=b revision=1 runner=1
safetensors-load-strategy=1 safetensors-prefetch-block-size=1 safetensors-prefetch-num-threads=1
scheduler-reserve-full-isl=b scheduling-policy=1 seed=1 show-hidden-metrics-for-version=1 shutdown-timeout=1
skip-mm-profiling=b skip-tokenizer-init=b sleep-mode-offload-cudagraph=b sleep-preserve-parameter-names=+
sparse-indexer-topk-backend=1 spec-method=1 spec-model=1 spec-tokens=1 specialize-active-lora=b
speculative-config,-sc=j sse-keep-alive-interval=1 stream-interval=1 structured-outputs-config=j
swa-bounded-replay=b tensor-parallel-size,-tp=1 tokenizer-mode=1 tokenizer-revision=1 tokenizer=1 tool-call-parser=1
tool-strict-level=1 ubatch-size=1 use-fp64-gumbel=b use-replayssm=b use-tqdm-on-load=b uvicorn-log-level=1
video-pruning-method=1 video-pruning-rate=1 watermark-config=j watermark=1
""",
    "ours": """
allow-credentials=b allowed-headers=j allowed-methods=j allowed-origins=j api-key=+ config=1
data-parallel-multi-port-external-lb,-dpm=0 data-parallel-supervisor-port=1 enable-scale-out=b enable-ssl-refresh=b
grpc-port=1 grpc=0 headless=0 help,-h=0 host=1 middleware=1 model=1 port=1 root-path=1 served-model-name=+
ssl-ca-certs=1 ssl-cert-reqs=1 ssl-certfile=1 ssl-ciphers=1 ssl-keyfile=1 tokens-only=b uds=1
""",
    "secret": """
hf-token=?
""",
    "network": """
collect-detailed-traces=+ data-parallel-address,-dpa=1 data-parallel-backend,-dpb=1 data-parallel-external-lb,-dpe=b
data-parallel-hybrid-lb,-dph=b data-parallel-rank,-dpn=1 data-parallel-rpc-port,-dpp=1
data-parallel-size-local,-dpl=1 data-parallel-start-rank,-dpr=1 dp-supervisor-probe-failure-threshold=1
dp-supervisor-probe-interval-s=1 dp-supervisor-probe-timeout-s=1 ec-transfer-config=j elastic-ep-max-dp-size=1
enable-elastic-ep=b kv-events-config=j kv-transfer-config=j master-addr=1 master-port=1 nnodes,-n=1 node-rank,-r=1
otlp-traces-endpoint=1 tool-server=1 weight-transfer-config=j
""",
    "code": """
additional-config=j distributed-executor-backend=1 ec-manager-config=j io-processor-plugin=1 logits-processors=+
model-class-overrides=j pt-load-map-location=j ray-workers-use-nsight=b reasoning-parser-plugin=1 scheduler-cls=1
tool-parser-plugin=1 trust-remote-code=b trust-request-chat-template=b trust-request-mm-kwargs=b worker-cls=1
worker-extension-cls=1
""",
    "files": """
allowed-local-media-path=1 download-dir=1 enable-trace-replay=b log-config-file=1 logging-config=j
mm-encoder-fp8-scale-path=1 mm-encoder-fp8-scale-save-path=1 profiler-config=j
""",
    "unreviewed": """
""",
}

KINDS = ("whole", "number", "length", "json")
"""Kinds of values: a whole number, any number, a number with a unit (`8k`) or `auto`, JSON."""

VALUES: Mapping[str, str] = {
    "whole": """
api-server-count block-size cp-kv-cache-interleave-size cpu-distributed-timeout-seconds cudagraph-capture-sizes
data-parallel-rank data-parallel-rpc-port data-parallel-size data-parallel-size-local data-parallel-start-rank
data-parallel-supervisor-port dbo-decode-token-threshold dbo-prefill-token-threshold dcp-kv-cache-interleave-size
decode-context-parallel-size distributed-timeout-seconds dp-supervisor-probe-failure-threshold dp-sync-interval
elastic-ep-max-dp-size grpc-port h11-max-header-count h11-max-incomplete-event-size long-prefill-token-threshold
mamba-block-size mamba-cache-philox-rounds master-port max-cpu-loras max-cudagraph-capture-size max-log-len
max-logprobs max-lora-cls-labels max-loras max-num-active-seqs max-num-queued-reqs max-num-seqs
max-parallel-loading-workers mm-shm-cache-max-object-size-mb nnodes node-rank num-gpu-blocks-override
numa-bind-nodes offload-group-size offload-num-in-group offload-prefetch-step pipeline-parallel-size port
prefill-context-parallel-size prefill-schedule-interval prefix-cache-retention-interval prefix-match-unit
renderer-num-workers replayssm-buffer-len safetensors-prefetch-num-threads seed shutdown-timeout spec-tokens
sse-keep-alive-interval ssl-cert-reqs stream-interval tensor-parallel-size ubatch-size
""",
    "number": """
cpu-offload-gb dp-supervisor-probe-interval-s dp-supervisor-probe-timeout-s gpu-memory-utilization
kv-cache-metrics-sample kv-offloading-size mm-encoder-fp8-scale-save-margin mm-ipc-gpu-memory-gb
mm-processor-cache-gb video-pruning-rate watermark
""",
    "length": """
kv-cache-memory-bytes max-model-len max-num-batched-tokens max-num-queued-tokens max-num-scheduled-tokens
safetensors-prefetch-block-size
""",
    "json": """
allowed-headers allowed-methods allowed-origins attention-config aux-output-config compilation-config
custom-histogram-buckets default-chat-template-kwargs default-mm-loras diffusion-config ec-manager-config
ec-transfer-config engram-config eplb-config fault-tolerance-config ir-op-priority kernel-config kv-events-config
kv-transfer-config limit-mm-per-prompt logging-config media-io-kwargs mm-processor-kwargs model-class-overrides
override-generation-config pooler-config profiler-config quantization-config reasoning-config speculative-config
structured-outputs-config watermark-config weight-transfer-config
""",
    "choice": """
all2all-backend: allgather_reducescatter deepep_high_throughput deepep_low_latency deepep_v2 flashinfer_all2allv
flashinfer_nvlink_one_sided flashinfer_nvlink_two_sided moonep mori_high_throughput mori_low_latency naive nixl_ep
pplx anthropic-disabled-thinking-effort: auto high low max medium none xhigh chat-template-content-format: auto
openai string collect-detailed-traces: all model worker None convert: auto classify embed none dcp-comm-backend: a2a
ag_rs None dtype: auto bfloat16 float float16 float32 half expert-placement-strategy: linear round_robin
fingerprint-mode: custom full hash none gdn-prefill-backend: flashinfer triton cutedsl aiter_flydsl
jit-monitor-mode: error warn kda-decode-backend: auto native flashinfer triton kda-prefill-backend: auto triton
flashkda flashinfer fused kv-cache-dtype: auto bfloat16 float16 fp8 fp8_ds_mla fp8_e4m3 fp8_e5m2 fp8_inc
fp8_per_token_head int4_per_token_head int8_per_token_head nvfp4 nvfp4_4over6 nvfp4_ds_mla turboquant_3bit_nc
turboquant_4bit_nc turboquant_k3v4_nc turboquant_k8v4 ultraquant_4bit kv-offloading-backend: lmcache native
log-level: CRITICAL ERROR WARNING INFO DEBUG NOTSET logprobs-mode: processed_logits processed_logprobs raw_logits
raw_logprobs lora-dtype: auto bfloat16 float16 mamba-cache-dtype: auto bfloat16 float16 float32 mamba-cache-mode:
align none mamba-ssm-cache-dtype: auto bfloat16 float16 float32 mamba-ssu-algorithm: auto horizontal simple vertical
None max-lora-rank: 1 8 16 32 64 128 256 320 512 mm-encoder-attn-dtype: fp8 None mm-encoder-tp-mode: data weights
mm-hasher-algorithm: blake3 sha256 sha512 mm-processor-cache-type: lru shm mm-processor-device: auto cpu
mm-tensor-ipc: direct_rpc torch_shm offload-backend: auto prefetch uva per-request-spec-decode-metrics: detailed
none summary performance-mode: balanced interactivity throughput prefix-caching-hash-algo: sha256 sha256_cbor xxhash
xxhash_cbor runner: auto draft generate pooling safetensors-load-strategy: eager lazy prefetch torchao None
scheduling-policy: fcfs priority spec-method: bailing_hybrid_mtp bailing_hybrid_v3_mtp custom_class deepseek_mtp
dflash dots3_note_mtp draft_model dspark eagle eagle3 ernie_mtp exaone4_5_mtp exaone_moe_mtp extract_hidden_states
gemma4_mtp glm4_moe_lite_mtp glm4_moe_mtp glm5_next_mtp glm_ocr_mtp hy_v3_mtp hy_v4_mtp inkling_mtp kimi_k3_mtp
longcat_flash_mtp medusa mimo_mtp mimo_v2_mtp minimax_m3_mtp mlp_speculator mtp nemotron_h_mtp ngram ngram_gpu
pangu_ultra_moe_mtp qwen3_5_mtp qwen3_next_mtp qwen4_exp_mtp step3p5_mtp suffix None tool-strict-level: auto
function parameter uvicorn-log-level: critical debug error info trace warning video-pruning-method: evs vidcom2
""",
}
