;; Lines of 7 MiB, again and again.
;; === code
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (drop (memory.grow (i32.const 127)))
      (memory.fill (i32.const 65536) (i32.const 120) (i32.const 7340032))
      (loop $on
        (call $log (i32.const 2) (i32.const 65536) (i32.const 7340032) (i32.const 0) (i32.const 0))
        (br $on))
      (unreachable))
