"""
Provide manifests in the styles of well-known charts, with invented content.

Each manifest has one object with a Pod. A change may remove only the lines that end with ` # replaced`.
"""

REDIS_HA = """\
---
# Source: cache/charts/redis-ha/templates/statefulset.yaml
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: cache-server
  labels:
    app: cache

  annotations:
    {}
spec:
  selector:
    matchLabels:
      release: cache
      app: cache
  serviceName: cache
  podManagementPolicy: OrderedReady
  updateStrategy:
    type: RollingUpdate
  template:
    metadata:
      annotations:
        checksum/init-config: 35a2
      labels:
        release: cache
        app: cache
        app: cache
    spec:
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            - labelSelector:
                matchLabels:
                  app: cache
              topologyKey: kubernetes.io/hostname
      securityContext:

        fsGroup: 1000
        runAsNonRoot: true
      initContainers:
      - name: config-init
        image: registry.example.com/redis:7
        imagePullPolicy: IfNotPresent
        resources:
          {}
        command:
        - sh
        args:
        - /readonly-config/init.sh
        volumeMounts:
        - name: config
          mountPath: /readonly-config
          readOnly: true
        - name: data
          mountPath: /data
      containers:
      - name: redis
        image: registry.example.com/redis:7
        command:
          - redis-server
        args:
          - /data/conf/redis.conf
        livenessProbe:
          initialDelaySeconds: 30
          exec:
            command:
              - sh
              - -c
              - /health/redis_liveness.sh
        resources:
          {}
        ports:
        - name: redis
          containerPort: 6379
        volumeMounts:
        - mountPath: /data
          name: data
        lifecycle:
          {}
      - name: split-brain-fix
        image: registry.example.com/redis:7
        env:
        - name: SENTINEL_ID_0
          value: 9f1c

        resources:
          {}
      volumes:
      - name: config
        configMap:
          name: cache
          defaultMode: 0755
      - name: health
        configMap:
          name: cache-health
          defaultMode: 0400
      - name: data
        emptyDir:
          {}
---
# Source: cache/charts/redis-ha/templates/haproxy.yaml
kind: ConfigMap
apiVersion: v1
data: {a:  b}
"""

CERT_MANAGER = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: webhook
  namespace: "certs"
spec:
  replicas: 1
  template:
    metadata:
      labels:
        app: webhook
        app.kubernetes.io/version: "v1.15.0"
    spec:
      enableServiceLinks: no
      securityContext:
        runAsNonRoot: true
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: webhook
          image: "registry.example.com/webhook:v1.15.0"
          args:
          - --v=2
          - --secure-port=10250

          - --dynamic-serving-dns-names=webhook
          - --dynamic-serving-dns-names=webhook.$(POD_NAMESPACE)

          ports:
          - name: https
            protocol: TCP
            containerPort: 10250
          env:
          - name: POD_NAMESPACE
            valueFrom:
              fieldRef:
                fieldPath: metadata.namespace
      nodeSelector:
        kubernetes.io/os: "linux"
"""

KUBERAY = """\
apiVersion: apps/v1
kind: Deployment
metadata:
    name: operator
    annotations:
        kubectl.kubernetes.io/restartedAt: 2024-05-06T07:08:09Z
spec:
    selector: {matchLabels: {app: operator}}
    template:
        metadata:
            labels: {app: operator}
            annotations: {}     # replaced
        spec:
            # one at a time
            containers:
            -   name: operator
                # the newest
                image: registry.example.com/operator
                command: [ "/manager" ]
                args: [ "--leader", "yes" ]
                env:
                volumeMounts: []  # replaced
            volumes: ~     # replaced
"""

LOKI = """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  template:
    spec:
      tolerations:
        - effect: NoSchedule
          operator: Exists
      containers:
        - name: agent
          image: registry.example.com/agent:2\t
          args:\t
            - -config.file=/etc/agent/agent.yaml\t# mounted
            - |
              -log.level=info
                # not a comment
          env:
            - name: "HOSTNAME"
              valueFrom:
                fieldRef: {fieldPath: 'spec.nodeName'}
          # volumeMounts:
          #   - name: run
          securityContext:
            readOnlyRootFilesystem: on
      # the end
"""

ARGO_CD = """\
# This is an auto-generated file. DO NOT EDIT
apiVersion: batch/v1
kind: CronJob
metadata:
  name: backup
spec:
  schedule: '*/5 * * * *'
  jobTemplate:
    spec:
      template:
        spec:
          automountServiceAccountToken: n
          containers:
          - args:
            - sh
            - -c
            - >-
              export A=b &&
              run

              now
            image: registry.example.com/backup:v2
            name: backup
            securityContext:
              capabilities:
                drop:
                - ALL
          restartPolicy: Never
          volumes:
          - emptyDir: {}
            name: tmp"""

ANCHORS = """\
x-base: &labels {app: cart, tier: web}
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, labels: *labels}
spec:
  selector: {matchLabels: *labels}
  template:
    metadata:
      labels:
        <<: *labels
        version: &version "1.10"
    spec:
      containers:
        - &app
          name: cart
          image: registry.example.com/cart
          env: &env
            - {name: VERSION, value: *version}
            - name: MODE
              value: "0400"
        - <<: *app
          name: worker
        - name: other
          image: registry.example.com/other
          env: *env # the same
      volumes:
        - name: secret
          secret: {secretName: cart, defaultMode: 0400}
"""

SHAPES = {
    "redis-ha": REDIS_HA,
    "cert-manager": CERT_MANAGER,
    "kuberay": KUBERAY,
    "loki": LOKI,
    "argo-cd": ARGO_CD,
    "anchors": ANCHORS,
}
