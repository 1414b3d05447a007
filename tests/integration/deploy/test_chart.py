"""The Helm chart gives a worker what it needs, says what the worker's settings say, and refuses what can't work."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
from pydantic import BaseModel

from tests.chart import CHART, EXAMPLES, REPOSITORY, Chart, Manifest, RefusedError
from tests.prometheus import DASHBOARDS, rules
from worker.cli.main import app
from worker.kafka.admin.topics import DEAD_LETTER_ROOM
from worker.settings import CONFIG_FILE_VARIABLE, ENV_PREFIX, Settings
from worker.settings.kafka import for_documents
from worker.settings.load import environment_names, load_settings
from worker.telemetry.health import HEARTBEAT_TIMEOUT_S
from worker.telemetry.http import PAGES

DEFAULTS = Settings()
EVERYTHING = {
    "topics": {"create": True},
    "ingest": {"enabled": True, "volume": {"emptyDir": {}}},
    "networkPolicy": {"enabled": True},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "keda": {"enabled": True},
    "cache": {"persistentVolume": {"enabled": True}},
}
INDEX = {"enabled": True, "keda": {"enabled": True}}
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": EVERYTHING,
    "index": {**EVERYTHING, "index": INDEX},
    **{path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(EXAMPLES.glob("values-*.yaml"))},
}
OF_OPERATORS: dict[str, type[BaseModel]] = {
    "ScaledObject": ScaledObject,
    "TriggerAuthentication": TriggerAuthentication,
    "PodMonitor": PodMonitor,
    "PrometheusRule": PrometheusRule,
}


@pytest.fixture(scope="module")
def chart() -> Chart:
    return Chart()


def workload(manifests: list[Manifest]) -> Manifest:
    [found] = [each for each in manifests if each["kind"] in {"Deployment", "StatefulSet"} and not indexes(each)]
    return found


def indexes(manifest: Manifest) -> bool:
    """Whether a manifest is there for the live index."""
    return str(manifest["metadata"]["name"]).endswith("-index")


def of_index(manifests: list[Manifest], kind: str) -> Manifest:
    return one([each for each in manifests if indexes(each)], kind)


def index_container(manifests: list[Manifest]) -> Manifest:
    [container] = of_index(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def one(manifests: list[Manifest], kind: str) -> Manifest:
    [found] = [each for each in manifests if each["kind"] == kind]
    return found


def pod_templates(manifests: list[Manifest]) -> list[Manifest]:
    jobs = [each["spec"]["jobTemplate"] if each["kind"] == "CronJob" else each for each in manifests]
    return [each["spec"]["template"] for each in jobs if "template" in each.get("spec", {})]


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def worker_container(manifests: list[Manifest]) -> Manifest:
    [container] = workload(manifests)["spec"]["template"]["spec"]["containers"]
    return dict(container)


def environment(container: Manifest) -> dict[str, Manifest]:
    return {variable["name"]: variable for variable in container["env"]}


def selects(selector: Manifest, labels: Manifest) -> bool:
    return selector["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_has_nothing_to_say_against_the_chart(chart: Chart, values: dict[str, Any]) -> None:
    assert chart.lint(values) == []


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_kubernetes_and_the_operators_know_every_field(chart: Chart, values: dict[str, Any]) -> None:
    described = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    oldest = described["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
    for manifest in chart.render(values):
        if manifest["kind"] in OF_OPERATORS:
            assert list(unknown(manifest, as_known(manifest))) == []
        else:
            for version in (oldest, kubernetes_validate.latest_version()):
                kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_noticed(chart: Chart) -> None:
    manifests = chart.render(EVERYTHING)
    one(manifests, "ScaledObject")["spec"]["triggers"][0]["metaData"] = {}
    assert list(unknown(one(manifests, "ScaledObject"), as_known(one(manifests, "ScaledObject")))) == [
        ".spec.triggers.0.metaData"
    ]
    worker_container(manifests)["livenessProbe"]["failuresThreshold"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="failuresThreshold"):
        kubernetes_validate.validate(workload(manifests), kubernetes_validate.latest_version(), strict=True)


def as_known(manifest: Manifest) -> Any:
    """What an operator's own types keep of a manifest: fields that they don't know are gone."""
    kept = OF_OPERATORS[manifest["kind"]].model_validate(manifest)
    return kept.model_dump(mode="json", by_alias=True, exclude_none=True)


def unknown(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Yield the places of what was given and is not kept."""
    if isinstance(given, list):
        given, kept = dict(enumerate(given)), dict(enumerate(kept))
    if not isinstance(given, dict):
        if given != kept:
            yield path
        return
    for name, value in given.items():
        if name in kept:
            yield from unknown(value, kept[name], f"{path}.{name}")
        else:
            yield f"{path}.{name}"


def test_the_chart_is_of_the_projects_version(chart: Chart) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    described = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert described["version"] == described["appVersion"] == project["version"]
    assert worker_container(chart.render())["image"] == f"rerank-worker:{project['version']}"


def test_the_worker_reads_the_settings_as_they_were_written(
    chart: Chart, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {
        "kafka": {
            "bootstrap_servers": "a:9092,b:9092",
            "max_in_flight_pairs": 1_000_000,
            "max_unpublished_bytes": 67_108_865,
            "commit_interval_s": 0.25,
            "reply_topics": ["replies", "answers.*"],
            "client_options": {"fetch.min.bytes": 2, "client.rack": "010"},
        },
        "answer": {"user_prompt": "Q: {question}\n{passages}\n# no comment: \"1:30\" 'yes'", "temperature": "none"},
        "rerank": {"min_score": -4.5, "packed": False},
    }
    written = one(chart.render({"settings": settings}), "ConfigMap")["data"]["worker.yaml"]
    (tmp_path / "worker.yaml").write_text(written, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(tmp_path / "worker.yaml"))
    loaded = load_settings().model_dump(mode="json")
    for section, members in settings.items():
        assert {name: loaded[section][name] for name in members} == members


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_worker_accepts_the_settings(
    chart: Chart, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests = chart.render(values)
    (tmp_path / "ca.crt").touch()
    written = manifests_settings(manifests).replace("/etc/kafka-ca", str(tmp_path))
    (tmp_path / "worker.yaml").write_text(written, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for variable in environment(worker_container(manifests)):
        if variable.startswith(ENV_PREFIX):
            monkeypatch.setenv(variable, "given-by-the-pod")
    monkeypatch.setenv("RERANK_WORKER_RERANK__DEVICE", "cuda")
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(tmp_path / "worker.yaml"))
    assert load_settings().worker_id == "given-by-the-pod"


def manifests_settings(manifests: list[Manifest]) -> str:
    [found] = [each["data"] for each in manifests if each["kind"] == "ConfigMap" and "worker.yaml" in each["data"]]
    return str(found["worker.yaml"])


def test_settings_are_no_defaults_of_the_charts_own(chart: Chart) -> None:
    manifests = chart.render({"keda": {"enabled": True}})
    pod = workload(manifests)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == DEFAULTS.kafka.drain_timeout_s + DEFAULTS.kafka.close_timeout_s + 5
    assert worker_container(manifests)["ports"] == [{"name": "telemetry", "containerPort": DEFAULTS.telemetry.port}]
    scaled = one(manifests, "ScaledObject")["spec"]
    assert scaled["maxReplicaCount"] == DEFAULTS.kafka.partitions
    [trigger] = scaled["triggers"]
    assert trigger["metadata"] == {
        "bootstrapServers": "kafka:9092",
        "consumerGroup": DEFAULTS.kafka.group_id,
        "topic": DEFAULTS.kafka.query_topic,
        "lagThreshold": str(DEFAULTS.kafka.max_in_flight),
        "offsetResetPolicy": DEFAULTS.kafka.auto_offset_reset,
        "version": "2.1.0",
    }


def test_the_grace_period_follows_drain_and_close(chart: Chart) -> None:
    manifests = chart.render({"settings": {"kafka": {"drain_timeout_s": 90.5, "close_timeout_s": 20}}})
    assert workload(manifests)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 116


def test_probes_ask_pages_that_there_are_and_give_up_before_the_broker_does(chart: Chart) -> None:
    worker = worker_container(chart.render({"startupTimeoutSeconds": 92}))
    probes = {name: worker[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {
        "startup": "/live",
        "liveness": "/live",
        "readiness": "/ready",
    }
    assert {probe["httpGet"]["path"] for probe in probes.values()} <= set(PAGES)
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"telemetry"}
    bears_s = {name: probe["periodSeconds"] * probe["failureThreshold"] for name, probe in probes.items()}
    assert bears_s["startup"] == 95
    assert HEARTBEAT_TIMEOUT_S + bears_s["liveness"] < DEFAULTS.kafka.max_poll_interval_s


def test_a_workers_name_is_its_pods(chart: Chart) -> None:
    by_pod = {"fieldRef": {"fieldPath": "metadata.name"}}
    given = environment(worker_container(chart.render()))
    assert given["RERANK_WORKER_WORKER_ID"]["valueFrom"] == by_pod
    assert "RERANK_WORKER_KAFKA__GROUP_INSTANCE_ID" not in given
    static = environment(worker_container(chart.render({"kind": "StatefulSet", "staticMembership": True})))
    assert static["RERANK_WORKER_KAFKA__GROUP_INSTANCE_ID"]["valueFrom"] == by_pod


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_all_pods_are_of_the_restricted_profile_and_write_to_volumes_alone(chart: Chart, kind: str) -> None:
    mounts = [{"path": "/etc/ca", "secret": "ca"}]
    manifests = chart.render({**EVERYTHING, "kind": kind, "mounts": mounts, "index": INDEX})
    pods = pod_templates(manifests)
    assert len(pods) == 4
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    for pod in pods:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert {key for volume in spec["volumes"] for key in volume} - {"name"} <= allowed
        templates = workload(manifests)["spec"].get("volumeClaimTemplates", [])
        known = {volume["name"] for volume in spec["volumes"]} | {claim["metadata"]["name"] for claim in templates}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert set(mounted.values()) <= known
            assert {"/tmp", "/cache", "/etc/rerank-worker", "/etc/ca"} <= set(mounted)  # noqa: S108 - a mount's path
            for variable in ("RERANK_WORKER_CACHE_DIR", "HF_HOME"):
                assert environment(container)[variable]["value"].startswith("/cache/")


def test_containers_run_commands_that_there_are_with_variables_that_are_settings(chart: Chart) -> None:
    ingest = {"enabled": True, "volume": {"emptyDir": {}}, "collection": "handbook", "skipInvalid": True}
    index = {**INDEX, "into": "documents-2"}
    manifests = chart.render({**EVERYTHING, "ingest": ingest, "index": index, "gpu": {"enabled": True}})
    commands = typer.main.get_command(app).commands
    ran = set()
    for container in (each for pod in pod_templates(manifests) for each in containers(pod)):
        name, *arguments = container["args"]
        commands[name].make_context(name, arguments)
        ran.add(name)
        given = {variable for variable in environment(container) if variable.startswith(ENV_PREFIX)}
        assert given - {CONFIG_FILE_VARIABLE} <= set(environment_names())
    assert ran == {"run", "index", "models", "topics", "ingest"}


def test_secrets_come_out_of_secrets_alone(chart: Chart) -> None:
    secret = {"secret": "kafka-user", "key": "password"}
    names = ["kafka.sasl_password", "kafka.client_options.ssl.key.password", "answer.headers.x-token"]
    manifests = chart.render({**EVERYTHING, "secretSettings": dict.fromkeys(names, secret)})
    assert "Secret" not in {each["kind"] for each in manifests}
    for container in (each for pod in pod_templates(manifests) for each in containers(pod)):
        from_secrets = {
            name: variable["valueFrom"]["secretKeyRef"]
            for name, variable in environment(container).items()
            if "secretKeyRef" in variable.get("valueFrom", {})
        }
        assert from_secrets == {
            "RERANK_WORKER_KAFKA__SASL_PASSWORD": {"name": "kafka-user", "key": "password"},
            "RERANK_WORKER_KAFKA__CLIENT_OPTIONS__SSL.KEY.PASSWORD": {"name": "kafka-user", "key": "password"},
            "RERANK_WORKER_ANSWER__HEADERS__X-TOKEN": {"name": "kafka-user", "key": "password"},
        }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"settings": {"kafka": {"sasl_password": "secret"}}}, "sasl_password"),
        ({"settings": {"kafka": {"max_inflight": 2}}}, "max_inflight"),
        ({"settings": {"recall": {"mode": "embedded"}}}, "run a Chroma server"),
        ({"secretSettings": {"kafka.sasl_pasword": {"secret": "a", "key": "b"}}}, "sasl_pasword"),
        ({"replica": 3}, "replica"),
        ({"staticMembership": True}, "staticMembership needs kind StatefulSet"),
        ({"keda": {"enabled": True, "maxReplicas": 13}}, "above the 12 partitions"),
        ({"index": {"enabled": True, "keda": {"enabled": True, "maxReplicas": 13}}}, "index.keda.maxReplicas is above"),
        (
            {"keda": {"enabled": True}, "settings": {"kafka": {"security_protocol": "sasl_ssl"}}},
            "keda knows settings.kafka.sasl_mechanism",
        ),
        (
            {
                "keda": {"enabled": True},
                "settings": {"kafka": {"security_protocol": "sasl_ssl", "sasl_mechanism": "PLAIN"}},
            },
            "give kafka.sasl_password in secretSettings",
        ),
        ({"ingest": {"enabled": True}}, "name the volume that has the documents"),
        ({"mounts": [{"path": "/etc/ca"}]}, "set one of secret and configMap"),
        ({"serviceAccount": {"create": False}}, "set serviceAccount.name"),
    ],
    ids=json.dumps,
)
def test_what_can_not_work_is_refused_with_what_to_set(chart: Chart, values: dict[str, Any], said: str) -> None:
    with pytest.raises(RefusedError, match=re.escape(said)):
        chart.render(values)


def test_selectors_choose_workers_and_leave_jobs_alone(chart: Chart) -> None:
    manifests = chart.render(EVERYTHING)
    worker = workload(manifests)
    labels = worker["spec"]["template"]["metadata"]["labels"]
    jobs = [pod["metadata"]["labels"] for pod in pod_templates(manifests) if pod is not worker["spec"]["template"]]
    assert len(jobs) == 2
    of_workers = [
        worker["spec"]["selector"],
        one(manifests, "PodDisruptionBudget")["spec"]["selector"],
        one(manifests, "PodMonitor")["spec"]["selector"],
        *(each["labelSelector"] for each in worker["spec"]["template"]["spec"]["topologySpreadConstraints"]),
    ]
    for selector in of_workers:
        assert selects(selector, labels)
        assert not any(selects(selector, job) for job in jobs)
    closed_in = one(manifests, "NetworkPolicy")["spec"]["podSelector"]
    assert all(selects(closed_in, each) for each in (labels, *jobs))


def test_a_node_drains_one_worker_at_a_time_and_waits_for_none_that_is_not_ready(chart: Chart) -> None:
    budget = one(chart.render(), "PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_a_gpu_is_the_workers_alone_and_no_rollout_needs_another(chart: Chart) -> None:
    manifests = chart.render({"gpu": {"enabled": True, "resource": "nvidia.com/gpu.shared"}})
    spec = workload(manifests)["spec"]
    pod = spec["template"]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    worker = worker_container(manifests)
    assert worker["resources"]["limits"] == {"cpu": "2", "memory": "3Gi", "nvidia.com/gpu.shared": 1}
    assert environment(worker)["RERANK_WORKER_RERANK__DEVICE"]["value"] == "cuda"
    for fetching in pod["initContainers"]:
        assert set(fetching["resources"]["limits"]) == {"cpu", "memory"}
        assert "RERANK_WORKER_RERANK__DEVICE" not in environment(fetching)


def test_a_device_of_your_own_is_left_alone(chart: Chart) -> None:
    manifests = chart.render({"gpu": {"enabled": True}, "settings": {"rerank": {"device": "cuda:1"}}})
    assert "RERANK_WORKER_RERANK__DEVICE" not in environment(worker_container(manifests))


def test_a_reranker_elsewhere_is_not_fetched(chart: Chart) -> None:
    manifests = chart.render({"settings": {"rerank": {"remote_url": "http://tei:8080/rerank"}}})
    fetched = [each["args"] for each in workload(manifests)["spec"]["template"]["spec"]["initContainers"]]
    assert fetched == [["models", "--path", "embedding"]]


def test_a_deployments_pods_share_a_volume_and_a_statefulsets_have_one_each(chart: Chart) -> None:
    values = {"cache": {"persistentVolume": {"enabled": True}}}
    shared = chart.render(values)
    claim = one(shared, "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = {volume["name"]: volume for volume in workload(shared)["spec"]["template"]["spec"]["volumes"]}
    assert volumes["cache"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]

    own = workload(chart.render({**values, "kind": "StatefulSet"}))["spec"]
    assert [each["spec"]["accessModes"] for each in own["volumeClaimTemplates"]] == [["ReadWriteOnce"]]
    assert "cache" not in {volume["name"] for volume in own["template"]["spec"]["volumes"]}


def test_other_settings_make_other_pods_and_another_job(chart: Chart) -> None:
    before, same, after = (
        chart.render({"topics": {"create": True}, "settings": {"kafka": {"partitions": partitions}}})
        for partitions in (12, 12, 24)
    )
    assert before == same
    assert one(before, "Job")["metadata"]["name"] != one(after, "Job")["metadata"]["name"]
    annotations = [workload(each)["spec"]["template"]["metadata"]["annotations"] for each in (before, after)]
    assert annotations[0] != annotations[1]


def test_topics_may_be_made_by_a_user_who_may(chart: Chart) -> None:
    manifests = chart.render(
        {
            "secretSettings": {"kafka.sasl_password": {"secret": "worker", "key": "password"}},
            "topics": {
                "create": True,
                "secretSettings": {"kafka.sasl_password": {"secret": "admin", "key": "password"}},
            },
        }
    )
    [job] = one(manifests, "Job")["spec"]["template"]["spec"]["containers"]
    names = [
        environment(each)["RERANK_WORKER_KAFKA__SASL_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"]
        for each in (job, worker_container(manifests))
    ]
    assert names == ["admin", "worker"]


def test_keda_scales_what_there_is_and_logs_in_as_the_worker_does(chart: Chart) -> None:
    manifests = chart.render({**VALUES["values-strimzi-keda"], "kind": "StatefulSet"})
    scaled = one(manifests, "ScaledObject")
    target = scaled["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("StatefulSet", workload(manifests)["metadata"]["name"])
    assert "replicas" not in workload(manifests)["spec"], "an upgrade would undo what KEDA has scaled"
    [trigger] = scaled["spec"]["triggers"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
    login = one(manifests, "TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    parameters = {each["parameter"]: (each["name"], each["key"]) for each in login["spec"]["secretTargetRef"]}
    assert parameters == {
        "ca": ("rag-cluster-ca-cert", "ca.crt"),
        "username": ("rerank-worker-login", "username"),
        "password": ("rerank-worker", "password"),
    }


def test_an_index_runs_as_a_worker_does_and_follows_its_own_topic(chart: Chart) -> None:
    kafka = {"documents_topic": "shop.public.docs", "documents_group_id": "shop", "drain_timeout_s": 90}
    values = {**EVERYTHING, "index": INDEX, "settings": {"kafka": kafka}, "gpu": {"enabled": True}}
    manifests = chart.render(values)
    index, worker = index_container(manifests), worker_container(manifests)
    for shared in ("image", "ports", "startupProbe", "livenessProbe", "readinessProbe", "volumeMounts"):
        assert index[shared] == worker[shared]
    pods = [each["spec"]["template"]["spec"] for each in (of_index(manifests, "Deployment"), workload(manifests))]
    assert [pod["terminationGracePeriodSeconds"] for pod in pods] == [110, 110]
    assert [each["args"] for each in pods[0]["initContainers"]] == [["models", "--path", "embedding"]]
    # The GPU is for pairs.
    assert set(index["resources"]["limits"]) == {"cpu", "memory"}
    assert environment(index)["RERANK_WORKER_RECALL__DEVICE"]["value"] == "cpu"
    scaled = of_index(manifests, "ScaledObject")["spec"]
    target = of_index(manifests, "Deployment")
    assert scaled["scaleTargetRef"]["name"] == target["metadata"]["name"]
    assert "replicas" not in target["spec"]
    [trigger] = scaled["triggers"]
    assert (trigger["metadata"]["topic"], trigger["metadata"]["consumerGroup"]) == ("shop.public.docs", "shop")


def test_an_index_is_scaled_by_the_group_that_it_is_of(chart: Chart) -> None:
    for into in (None, "documents-2"):
        kafka = for_documents(DEFAULTS.kafka, into=into)
        manifests = chart.render({"index": {**INDEX, "into": into or ""}})
        [trigger] = of_index(manifests, "ScaledObject")["spec"]["triggers"]
        assert trigger["metadata"]["topic"] == kafka.query_topic
        assert trigger["metadata"]["consumerGroup"] == kafka.group_id
        assert index_container(manifests)["args"] == (["index", "--into", into] if into else ["index"])


def test_workers_and_index_are_not_taken_for_each_other(chart: Chart) -> None:
    manifests = chart.render({**EVERYTHING, "index": INDEX})
    own = of_index(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    workers = workload(manifests)["spec"]["template"]["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        theirs = one([each for each in manifests if not indexes(each)], kind)["spec"]["selector"]
        its = of_index(manifests, kind)["spec"]["selector"]
        assert (selects(its, own), selects(its, workers)) == (True, False)
        assert (selects(theirs, own), selects(theirs, workers)) == (False, True)
    assert selects(one(manifests, "NetworkPolicy")["spec"]["podSelector"], own)


def test_an_indexs_topics_are_made_too(chart: Chart) -> None:
    [job] = [each for each in chart.render(VALUES["index"]) if each["kind"] == "Job"]
    made = [each["args"] for each in job["spec"]["template"]["spec"]["containers"]]
    assert made == [["topics", "--create"], ["topics", "--create", "--documents"]]


def test_scaled_to_zero_is_no_alarm(chart: Chart) -> None:
    assert alerts(chart.render(EVERYTHING)) == expected_alerts() - {"RerankWorkerNone"}
    assert "RerankWorkerIndexNone" not in alerts(chart.render({**EVERYTHING, "index": INDEX}))
    one_kept = {"enabled": True, "minReplicas": 1}
    kept = chart.render({**EVERYTHING, "keda": one_kept, "index": {"enabled": True, "keda": one_kept}})
    assert alerts(kept) == expected_alerts()


def alerts(manifests: list[Manifest]) -> set[str]:
    groups = one(manifests, "PrometheusRule")["spec"]["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def expected_alerts() -> set[str]:
    return {rule["alert"] for rule in rules() if "alert" in rule}


def test_rules_and_dashboards_are_the_very_ones(chart: Chart) -> None:
    manifests = chart.render({"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}})
    groups = one(manifests, "PrometheusRule")["spec"]["groups"]
    assert [rule for group in groups for rule in group["rules"]] == rules()
    [boards] = [each["data"] for each in manifests if each["metadata"]["name"].endswith("-dashboards")]
    assert [json.loads(boards[name]) for name in sorted(boards)] == DASHBOARDS


def test_a_packaged_chart_brings_what_it_links_to(chart: Chart, tmp_path: Path) -> None:
    assert chart.packaged(tmp_path).render(EVERYTHING) == chart.render(EVERYTHING)


def test_alerts_lead_to_their_runbooks(chart: Chart) -> None:
    base = "https://git.example.com/blob/main/"
    manifests = chart.render(
        {"prometheusRule": {"enabled": True, "runbookBase": base, "without": ["RerankWorkerNone"]}}
    )
    groups = one(manifests, "PrometheusRule")["spec"]["groups"]
    annotated = [rule["annotations"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert annotated
    for each in annotated:
        assert each["runbook_url"] == base + each["runbook"]
        assert (REPOSITORY / each["runbook"]).is_file()
    assert "RerankWorkerNone" not in alerts(manifests)


def test_what_is_scraped_is_named_as_the_rules_expect(chart: Chart) -> None:
    manifests = chart.render({"podMonitor": {"enabled": True}, "fullnameOverride": "answers", "index": INDEX})
    monitors = {indexes(each): each["spec"] for each in manifests if each["kind"] == "PodMonitor"}
    of_index = 'job=~"rerank-worker-index.*"'
    expressions = {rule["expr"] for rule in rules() if "up{job" in rule["expr"]}
    assert len(expressions) == 2
    for is_index, monitor in monitors.items():
        [endpoint] = monitor["podMetricsEndpoints"]
        assert endpoint["port"] in {port["name"] for port in worker_container(manifests)["ports"]}
        job = next(each["replacement"] for each in endpoint["relabelings"] if each["targetLabel"] == "job")
        for expression in expressions:
            [asked, *_] = re.findall(r'job=~"([^"]+)"', expression)
            [*left_out] = re.findall(r'job!~"([^"]+)"', expression)
            meant = bool(re.fullmatch(asked, job)) and not any(re.fullmatch(each, job) for each in left_out)
            assert meant == ((of_index in expression) == is_index), (job, expression)


def test_a_worker_reaches_what_its_settings_name_and_no_other_port(chart: Chart) -> None:
    values = {
        "networkPolicy": {"enabled": True, "to": {"store": [{"podSelector": {"matchLabels": {"app": "chroma"}}}]}},
        "settings": {
            "models": "offline",
            "kafka": {
                "bootstrap_servers": "a:9093, b:9094,c",
                "sasl_oauthbearer_token_endpoint_url": "https://identity:8443/token",
            },
            "recall": {"port": 8001},
            "answer": {"base_url": "https://llm.example.com/v1", "model": "small"},
            "rerank": {"remote_url": "http://tei:8080/rerank"},
            "telemetry": {"otlp_endpoint": "http://collector:4317", "port": 9999},
        },
    }
    policy = one(chart.render(values), "NetworkPolicy")["spec"]
    open_ports = [{port["port"] for port in rule["ports"]} for rule in policy["egress"]]
    assert sorted(map(sorted, open_ports)) == [[53], [443], [4317], [8001], [8080], [8443], [9092, 9093, 9094]]
    assert [rule["to"] for rule in policy["egress"] if "to" in rule] == [values["networkPolicy"]["to"]["store"]]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 9999}]}]


def test_the_examples_topics_and_rights_are_the_workers(chart: Chart) -> None:
    documents = list(yaml.safe_load_all((EXAMPLES / "strimzi.yaml").read_text(encoding="utf-8")))
    topics = {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "KafkaTopic"}
    kafka = Settings.model_validate({"kafka": VALUES["values-strimzi-keda"]["settings"]["kafka"]}).kafka
    assert set(topics) == {kafka.query_topic, kafka.answer_topic, kafka.dead_letter_topic}
    assert {topic["partitions"] for topic in topics.values()} == {kafka.partitions}
    brokers_default = 1_048_588
    assert topics[kafka.dead_letter_topic]["config"]["max.message.bytes"] == 2 * brokers_default + DEAD_LETTER_ROOM
    user = one(documents, "KafkaUser")
    granted = {
        (rule["resource"]["type"], rule["resource"]["name"], *rule["operations"])
        for rule in user["spec"]["authorization"]["acls"]
    }
    assert granted == {
        ("topic", kafka.query_topic, "Read", "Describe"),
        ("topic", kafka.answer_topic, "Write", "Describe"),
        ("topic", kafka.dead_letter_topic, "Write", "Describe"),
        ("group", kafka.group_id, "Read"),
        ("transactionalId", f"{kafka.group_id}-", "Write", "Describe"),
    }


def test_the_guides_values_are_values_of_the_chart(chart: Chart) -> None:
    guide = (REPOSITORY / "docs/guides/kubernetes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", guide, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        assert workload(chart.render(yaml.safe_load(block)))
