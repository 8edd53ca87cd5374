  (import "longshore:plugin/state@0.1.0" (instance $state
    (type $error (variant (case "too-large") (case "quota") (case "unavailable" string)))
    (export "error" (type $error' (eq $error)))
    (export "set" (func (param "key" string) (param "value" (list u8)) (param "ttl-ms" (option u64)) (result (result (error $error')))))))
  (core func $set (canon lower (func $state "set") (memory (core memory $mem)) (realloc (core func $realloc))))
