  (import "longshore:plugin/log@0.1.0" (instance $log
    (type $level (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type $level' (eq $level)))
    (export "log" (func (param "level" $level') (param "message" string) (param "fields" (list (tuple string string)))))))
  (core func $log (canon lower (func $log "log") (memory (core memory $mem)) (realloc (core func $realloc))))
