  (import "longshore:plugin/settings@0.1.0" (instance $settings (export "all" (func (result string)))))
  (core func $all (canon lower (func $settings "all") (memory (core memory $mem)) (realloc (core func $realloc))))
