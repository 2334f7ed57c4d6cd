"""Provide manifests with Pods, and functions that inject a sidecar into them."""

from typing import Any

import yaml

from sidecar.injection.inject import inject
from sidecar.setup.manifests import Workload
from tests.unit.injection.pods import ARN, SETTINGS

ROLE = SETTINGS._replace(role_arn=ARN)

MANIFEST = """\
# our shop
apiVersion: v1
kind: ServiceAccount
metadata:
    name: cart     # an indent of four
    namespace: shop
    annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::111122223333:role/cart"}
---   # the app
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart
  namespace: shop
spec:
  replicas:   2   # two
  selector: { matchLabels: {app: cart} }
  template:
    metadata:
      labels: {app: cart,  tier: "web"}
    spec:
      serviceAccountName: cart
      # the only one
      containers:
      - name: cart
        image: 'shop/cart:1'
        env:
        # first
        - name: A
          value: "1"   # one
        command: ["sh", "-c",   "echo hi"]
        args:
          - |
            a
             b: c
      volumes:
        - name: data
          emptyDir: {}

---
apiVersion: v1
kind: ConfigMap
data: {a: b,   c: d}
# the end
"""


def change(workload: Workload) -> dict[str, Any]:
    return inject(workload.pod, workload.service_account, SETTINGS).pod


def with_role(workload: Workload) -> dict[str, Any]:
    return inject(workload.pod, workload.service_account, ROLE).pod


def deployment(spec: dict[str, Any], kind: str = "Deployment") -> dict[str, Any]:
    template = {"metadata": {}, "spec": spec}
    inner: dict[str, Any] = {"template": template}
    if kind == "CronJob":
        inner = {"schedule": "@daily", "jobTemplate": {"spec": inner}}
    return {"kind": kind, "metadata": {"name": "cart"}, "spec": inner} if kind != "Pod" else {"kind": kind, **template}


SPEC = {"containers": [{"name": "app", "image": "app"}]}


def with_service_account(namespace: str, own_namespace: str = "", **spec: str) -> str:
    service_account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "cart", "annotations": {"eks.amazonaws.com/role-arn": ARN}},
    }
    workload = deployment({**SPEC, **spec})
    names: list[tuple[dict[str, Any], str]] = [(service_account, namespace), (workload, own_namespace)]
    for each, name in names:
        each["metadata"] |= {"namespace": name} if name else {}
    return yaml.safe_dump_all([workload, service_account])
