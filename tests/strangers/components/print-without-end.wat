;; One line without an end.
;; === code
    (import "host" "stdout" (func $stdout (result i32)))
    (import "host" "print" (func $print (param i32 i32 i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (local $out i32)
      (local.set $out (call $stdout))
      (loop $on (call $print (local.get $out) (i32.const 65536) (i32.const 4096) (i32.const 2048)) (br $on))
      (unreachable))
