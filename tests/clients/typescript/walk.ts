// Launches an instance, waits until it is ready, asks for its key and terminates it, all in types made from the document.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { readonly argv: readonly string[] };

type Instance = components["schemas"]["InstanceView"];
type Operation = components["schemas"]["OperationView"];

const [, , baseUrl = "", token = ""] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

function must<T>(found: { data?: T; error?: unknown }): T {
  if (found.data === undefined) throw new Error(JSON.stringify(found.error));
  return found.data;
}

async function show(instanceId: string): Promise<Instance> {
  return must(await client.GET("/api/instances/{instanceId}", { params: { path: { instanceId } } }));
}

async function end(instanceId: string, operation: "launch" | "terminate"): Promise<Operation> {
  for (;;) {
    const path = { instanceId, operation };
    const seen = must(await client.GET("/api/instances/{instanceId}/operations/{operation}", { params: { path } }));
    if (seen.status !== "Running") return seen;
    await new Promise((resume) => setTimeout(resume, 200));
  }
}

const refused = await client.POST("/api/instances/launch", { body: { model_name: "org/model", gpu: "A1O" } });
if (refused.error === undefined) throw new Error("a GPU that does not exist was launched");
const field: string | undefined = refused.error.errors[0]?.field;

const launched = await client.POST("/api/instances/launch", {
  body: { model_name: "meta-llama/Llama-3.1-8B-Instruct", gpu: "A10", region: ["eastus", "westus2"], labels: { team: "ts" } },
});
const { instance_id: instanceId, offers, estimate, gpu_memory: memory } = must(launched);
const fits: boolean | undefined = memory?.fits;
const location: string | null = launched.response.headers.get("Location");

const launch = await end(instanceId, "launch");
const ready = await show(instanceId);
const started: string | null | undefined = ready.attempts.at(-1)?.ready_at;
const key = must(await client.GET("/api/instances/{instanceId}/credentials", { params: { path: { instanceId } } }));
const list = must(await client.GET("/api/instances", { params: { query: { label: "team=ts", page_size: 1 } } }));

const ending = must(await client.DELETE("/api/instances/{instanceId}", { params: { path: { instanceId } } }));
const reason: string | undefined = ending.ending?.reason;
const termination = await end(instanceId, "terminate");
const ended = await show(instanceId);

console.log(
  JSON.stringify({
    field,
    location,
    fits,
    offered: offers.map((offer) => offer.region),
    hourly: estimate.hourly_usd,
    launch: launch.status,
    ready: ready.phase,
    bytes: ready.attempts.at(-1)?.total_bytes ?? null,
    started: started !== null && started !== undefined,
    key: key.api_key.length > 0,
    listed: list.instances.length,
    reason,
    termination: termination.status,
    ended: ended.phase,
  }),
);
