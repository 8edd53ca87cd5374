;; === host
  (import "wasi:http/outgoing-handler@0.3.0" (instance (export "handle" (func))))
  (import "longshore:plugin/queue@0.1.0" (instance (export "push" (func (param "value" string)))))
