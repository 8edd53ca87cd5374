;; === code
    (import "host" "stdout" (func $stdout (result i32)))
    (import "host" "subscribe" (func $subscribe (param i32) (result i32)))
    (func (export "handle") (param i32) (result i32)
      (local $out i32)
      (local.set $out (call $stdout))
      (loop $on (drop (call $subscribe (local.get $out))) (br $on))
      (unreachable))
