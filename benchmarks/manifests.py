"""
Measure CPU time and memory of `setup pod` for a List of Deployments, as `kubectl get deployments -o yaml` prints it.

    python -m benchmarks.manifests [--deployments 160 1600]

Prints CPU seconds and the peak of resident memory, each size in a separate process. The time must grow at most linearly
with the length: ten times the Deployments may take ten times the seconds.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.arguments import at_least

SIZES = [40, 160, 1600]

_ARN = "arn:aws:iam::111122223333:role/app"

DEPLOYMENT = """\
- apiVersion: apps/v1
  kind: Deployment
  metadata:
    annotations:
      deployment.kubernetes.io/revision: "3"
    creationTimestamp: "2026-01-02T03:04:05Z"
    generation: 3
    labels:
      app: shop-{number}
    name: shop-{number}
    namespace: shop
    resourceVersion: "123456"
    uid: 9d1c5d6e-0000-4000-8000-{number:012d}
  spec:
    progressDeadlineSeconds: 600
    replicas: 2
    selector:
      matchLabels:
        app: shop-{number}
    strategy:
      rollingUpdate:
        maxSurge: 25%
        maxUnavailable: 25%
      type: RollingUpdate
    template:
      metadata:
        creationTimestamp: null
        labels:
          app: shop-{number}
      spec:
        containers:
        - args:
          - --port=8080
          env:
          - name: MODE
            value: production
          - name: POD_IP
            valueFrom:
              fieldRef:
                apiVersion: v1
                fieldPath: status.podIP
          image: registry.example.com/shop:{number}
          imagePullPolicy: IfNotPresent
          livenessProbe:
            httpGet:
              path: /livez
              port: 8080
              scheme: HTTP
          name: shop
          ports:
          - containerPort: 8080
            protocol: TCP
          resources:
            requests:
              cpu: 100m
              memory: 64Mi
          volumeMounts:
          - mountPath: /data
            name: data
        dnsPolicy: ClusterFirst
        restartPolicy: Always
        terminationGracePeriodSeconds: 30
        volumes:
        - emptyDir: {{}}
          name: data
  status:
    availableReplicas: 2
    conditions:
    - lastTransitionTime: "2026-01-02T03:04:05Z"
      message: Deployment has minimum availability.
      reason: MinimumReplicasAvailable
      status: "True"
      type: Available
    observedGeneration: 3
    readyReplicas: 2
"""


def list_of(deployments: int) -> str:
    """Return a List with this many Deployments."""
    items = "".join(DEPLOYMENT.format(number=number) for number in range(deployments))
    return f'apiVersion: v1\nitems:\n{items}kind: List\nmetadata:\n  resourceVersion: ""\n'


def cost(path: Path) -> tuple[float, float]:
    """Return the CPU seconds of `setup pod` for this file, and the peak of its resident memory in MiB."""
    command = ["setup", "pod", str(path), "--image", "irsa-sidecar:1", "--region", "eu-west-1", "--role-arn", _ARN]
    code = f"import sys; from sidecar.cli import main; sys.exit(main({command!r}))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, after.ru_maxrss * unit / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure `setup pod` on a List of Deployments.")
    parser.add_argument(
        "--deployments", type=at_least(1), nargs="+", default=SIZES, metavar="N", help="sizes [%(default)s]"
    )
    args = parser.parse_args()
    print("Deployments   MiB of text   CPU s   peak MiB")
    with tempfile.TemporaryDirectory() as directory:
        for number in sorted(args.deployments):
            path = Path(directory, f"{number}.yaml")
            path.write_text(list_of(number))
            seconds, memory = cost(path)
            print(f"{number:11} {path.stat().st_size / 2**20:13.2f} {seconds:7.2f} {memory:10.0f}")


if __name__ == "__main__":
    main()
