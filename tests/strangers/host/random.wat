  (import "wasi:random/random@0.2.6" (instance $random (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (core func $random (canon lower (func $random "get-random-bytes") (memory (core memory $mem)) (realloc (core func $realloc))))
