"""Test properties of injection that are true for every Pod."""

import json
from typing import Any

import hypothesis
import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightkube.models.core_v1 import Pod

from sidecar.config.roles_file import parse_roles
from sidecar.config.settings import read_settings
from sidecar.errors import ConfigurationError
from sidecar.injection.app_container import READ_WHEN_EMPTY
from sidecar.injection.inject import Injected, inject
from sidecar.injection.json_patch import json_patch
from sidecar.injection.settings import Settings
from sidecar.kubernetes.document import Document
from sidecar.role import DEFAULT_ROLE
from tests.support.fakes import amazons_webhook
from tests.unit.injection.pods import ACCOUNT, ARN, PLAIN, SETTINGS, container, pods, variables

fewer = hypothesis.settings(max_examples=hypothesis.settings().max_examples // 3)
"""Settings with a third of the examples, because the generation of a whole Pod is slow."""

settings_of_both_kinds = st.sampled_from([SETTINGS, PLAIN])

LISTS = ("initContainers", "containers")


def injected(pod: Document, settings: Settings) -> Injected:
    return inject(pod, ACCOUNT, settings)


def users(pod: Document) -> list[Document]:
    return [each for key in LISTS for each in pod["spec"].get(key) or [] if each["name"] != "irsa-sidecar"]


def sidecar_of(pod: Document) -> Document:
    found: list[Document] = [each for key in LISTS for each in pod["spec"].get(key) or []]
    (sidecar,) = [each for each in found if each["name"] == "irsa-sidecar"]
    return sidecar


@fewer
@given(pods(), settings_of_both_kinds)
def test_second_injection_changes_nothing(pod: Document, settings: Settings) -> None:
    once = injected(pod, settings)
    assert json_patch(once.pod, injected(once.pod, settings).pod) == []


@fewer
@given(pods(), settings_of_both_kinds, settings_of_both_kinds)
def test_changed_settings_leave_nothing_of_the_first_injection(pod: Document, one: Settings, other: Settings) -> None:
    other = other._replace(image="other", region="us-east-1")
    changed = sidecar_of(injected(injected(pod, one).pod, other).pod)
    fresh = sidecar_of(injected(pod, other).pod)
    assert {**changed, "env": sorted(changed["env"], key=str)} == {**fresh, "env": sorted(fresh["env"], key=str)}


@fewer
@given(pods(), settings_of_both_kinds)
def test_patch_changes_the_pod_into_the_result(pod: Document, settings: Settings) -> None:
    before = json.loads(json.dumps(pod))
    result = injected(pod, settings).pod
    assert pod == before
    assert jsonpatch.apply_patch(before, json_patch(pod, result)) == result


@fewer
@given(pods(), settings_of_both_kinds)
def test_parts_that_a_user_wrote_stay_unchanged(pod: Document, settings: Settings) -> None:
    result = injected(pod, settings).pod
    changing = {*LISTS, "volumes"}
    assert {k: v for k, v in result["spec"].items() if k not in changing} == {
        k: v for k, v in pod["spec"].items() if k not in changing
    }
    assert [each["name"] for each in users(result)] == [each["name"] for each in users(pod)]
    for before, after in zip(users(pod), users(result), strict=True):
        is_given = "http://127.0.0.1:4772" in str(after)
        if not is_given:
            assert after == before
            continue
        assert {k: v for k, v in after.items() if k not in {"env", "volumeMounts"}} == {
            k: v for k, v in before.items() if k not in {"env", "volumeMounts"}
        }
        for key in ("env", "volumeMounts"):
            kept = [item for item in before.get(key, []) if not (is_amazons(item, before) or is_misread(item))]
            assert_begins_with(after[key], kept)


def is_amazons(item: Document, container: Document) -> bool:
    """Return whether Amazon's webhook added the item. The generator always adds all parts of the webhook's changes."""
    volumes = {mount["name"] for mount in container.get("volumeMounts", [])}
    web, pod = "aws-iam-token" in volumes, "eks-pod-identity-token" in volumes
    names = ({"aws-iam-token", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"} if web else set()) | (
        {"eks-pod-identity-token", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}
        if pod
        else set()
    )
    return item["name"] in names


def is_misread(item: Document) -> bool:
    """Return whether SDKs read the variable although it is empty."""
    return item["name"] in READ_WHEN_EMPTY and item.get("value") == ""


def assert_begins_with(after: list[Document], kept: list[Document]) -> None:
    for one, other in zip(kept, after, strict=False):
        if one["name"].lower() == "no_proxy" and "value" in one:
            assert other["value"] in {one["value"], f"{one['value']},127.0.0.1", "127.0.0.1"}
        else:
            assert one == other
    assert len(after) >= len(kept)


@fewer
@given(pods(), settings_of_both_kinds)
def test_annotations_and_volumes_of_others_are_kept(pod: Document, settings: Settings) -> None:
    result = injected(pod, settings).pod
    before, after = pod["metadata"].get("annotations", {}), result["metadata"]["annotations"]
    theirs = "eks.amazonaws.com/skip-containers"
    for name, value in before.items():
        assert after[name].startswith(value) if name == theirs else after[name] == value
    skipped = after[theirs].split(",")
    assert {"irsa-sidecar"} | {each["name"] for each in users(result) if "127.0.0.1:4772" in str(each)} <= set(skipped)
    kept = [v for v in pod["spec"].get("volumes", []) if v["name"] != "aws-iam-token"]
    assert [v for v in result["spec"]["volumes"] if v["name"] == "data"] == kept


@fewer
@given(pods(), settings_of_both_kinds)
def test_only_the_sidecar_mounts_the_token(pod: Document, settings: Settings) -> None:
    result = injected(pod, settings).pod
    for each in users(result):
        mounted = {mount["name"] for mount in each.get("volumeMounts", [])}
        assert not {"irsa-sidecar-token", "irsa-sidecar-state"} & mounted
        if "127.0.0.1:4772" in str(each):
            assert not {"aws-iam-token", "eks-pod-identity-token"} & mounted
            assert "AWS_WEB_IDENTITY_TOKEN_FILE" not in variables(each)


@fewer
@given(pods(), settings_of_both_kinds)
def test_state_volume_is_limited_and_in_memory(pod: Document, settings: Settings) -> None:
    result = injected(pod, settings).pod
    sidecar = sidecar_of(result)
    (mount,) = [mount for mount in sidecar["volumeMounts"] if mount["name"] == "irsa-sidecar-state"]
    assert mount["mountPath"] == variables(sidecar)["IRSA_SIDECAR_STATE_DIR"]
    assert not mount.get("readOnly")
    (volume,) = [volume for volume in result["spec"]["volumes"] if volume["name"] == "irsa-sidecar-state"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Mi"}


@fewer
@given(pods(), settings_of_both_kinds)
def test_sidecar_and_containers_agree_on_paths_and_secrets(pod: Document, settings: Settings) -> None:
    result = injected(pod, settings).pod
    sidecar = sidecar_of(result)
    environ = variables(sidecar)
    config, defaults = read_settings(environ, {})
    if config.config_file is None:
        roles: tuple[Any, ...] = (defaults.role(DEFAULT_ROLE, environ["AWS_ROLE_ARN"]),)
    else:
        roles = parse_roles(result["metadata"]["annotations"]["irsa-sidecar.io/roles"], "roles", defaults)
    served = {f"http://127.0.0.1:{config.listen[1]}{role.path}": role for role in roles}
    volume_path = {mount["mountPath"]: mount.get("subPath") for mount in sidecar["volumeMounts"]}
    assert volume_path.pop("/var/run/secrets/kubernetes.io/serviceaccount") not in {role.name for role in roles}
    for each in users(result):
        told = variables(each)
        if "127.0.0.1:4772" not in str(told):
            continue
        role = served[told["AWS_CONTAINER_CREDENTIALS_FULL_URI"]]
        assert told["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == role.authorization_token_file
        (mount,) = [m for m in each["volumeMounts"] if m["name"] == "irsa-sidecar-authorization"]
        assert mount["readOnly"]
        assert role.authorization_token_file == f"{mount['mountPath']}/token"
        assert volume_path[mount["mountPath"]] == mount.get("subPath")
        assert "AWS_EC2_METADATA_DISABLED" in told
        assert "AWS_REGION" in told or "AWS_DEFAULT_REGION" in told


@fewer
@given(pods(), settings_of_both_kinds)
def test_result_is_a_valid_pod_in_the_model_of_kubernetes(pod: Document, settings: Settings) -> None:
    result = injected(pod, settings).pod
    # The model removes unknown fields, and rejects values of a wrong type.
    assert_holds(Pod.from_dict(result).to_dict(), result)


def assert_holds(read: Any, written: Any) -> None:
    if isinstance(written, dict):
        assert set(written) <= set(read) | {key for key, value in written.items() if value in ([], {}, None)}
        for key in set(written) & set(read):
            assert_holds(read[key], written[key])
    elif isinstance(written, list):
        assert len(read) == len(written)
        for one, other in zip(read, written, strict=True):
            assert_holds(one, other)
    else:
        assert read == written


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "spec", "annotations", "containers", "env", "volumeMounts", "ports", "name"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@fewer
@given(pods(), settings_of_both_kinds)
def test_eks_webhook_changes_none_of_our_containers(pod: Document, settings: Settings) -> None:
    """Check that the result stays the same if both webhooks run again, any number of times."""

    def amazons(found: Document) -> Document:
        return amazons_webhook.mutated(found, role_arn=ARN, region="eu-west-1")

    first, later = injected(amazons(pod), settings).pod, amazons(injected(pod, settings).pod)
    for found in (first, amazons(first), later, injected(later, settings).pod):
        ours = [each for each in users(found) if "127.0.0.1:4772" in str(each)]
        assert len(ours) >= 1
        for each in (*ours, sidecar_of(found)):
            assert amazons_webhook.VOLUME not in {mount["name"] for mount in each["volumeMounts"]}
            assert amazons_webhook.DIRECTORY not in str(each["env"])
        assert amazons(injected(amazons(found), settings).pod) == amazons(injected(found, settings).pod)


@fewer
@given(pods(), settings_of_both_kinds)
def test_unused_pod_identity_is_removed_in_either_order(pod: Document, settings: Settings) -> None:
    """Check that the label and the volume stay if and only if a container mounts the volume."""

    def amazons(found: Document) -> Document:
        return amazons_webhook.mutated_for_pod_identity(found, region="eu-west-1")

    first, later = injected(amazons(pod), settings).pod, injected(amazons(injected(pod, settings).pod), settings).pod
    volume = amazons_webhook.POD_IDENTITY.volume
    for found in (first, later, injected(first, settings).pod):
        is_used = any(volume == mount["name"] for each in users(found) for mount in each.get("volumeMounts", []))
        assert (amazons_webhook.LABEL in found["metadata"]["labels"]) == is_used
        assert (volume in {each["name"] for each in found["spec"]["volumes"]}) == is_used
        assert found["metadata"]["labels"]["irsa-sidecar.io/inject"] == "true"


@given(st.dictionaries(st.sampled_from(["metadata", "spec"]), plain), settings_of_both_kinds)
def test_malformed_pod_is_rejected_with_a_message(document: Document, settings: Settings) -> None:
    with pytest.raises(ConfigurationError) as caught:
        inject(document, None, settings)
    assert str(caught.value).endswith((".", "?"))


def test_generator_creates_each_important_case() -> None:
    """Search for both kinds of Amazon's additions, several roles, skipped containers, warnings, and no `web`."""
    seen: set[str] = set()

    @given(pods())
    def look(pod: Document) -> None:
        text = str(pod)
        result = injected(pod, SETTINGS)
        seen.update(word for word in ("aws-iam-token", "eks-pod-identity-token", "Rep.1", "skip") if word in text)
        seen.update(["warned"] if result.warnings else [])
        seen.update(["alone"] if container(result.pod, "app") and "web" not in text else [])

    look()
    assert seen == {"aws-iam-token", "eks-pod-identity-token", "Rep.1", "skip", "warned", "alone"}


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in the document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [found for key, value in items for found in [(*path, key), *places(value, (*path, key))]]


@fewer
@given(pods(), settings_of_both_kinds, st.data())
def test_damaged_pod_is_injected_or_rejected_with_a_message(
    pod: Document, settings: Settings, data: st.DataObject
) -> None:
    broken: Any = json.loads(json.dumps(injected(pod, settings).pod if data.draw(st.booleans()) else pod))
    for _ in range(3):
        *parents, last = data.draw(st.sampled_from(places(broken)))
        target = broken
        for key in parents:
            target = target[key]
        target[last] = data.draw(st.sampled_from([None, 5, True, "x", [], ["x"], {}, {"name": "x"}, [{}]]))
    try:
        result = inject(broken, ACCOUNT, settings).pod
    except ConfigurationError as error:
        assert str(error)  # noqa: PT017  either is right
    else:
        assert json_patch(result, inject(result, ACCOUNT, settings).pod) == []
