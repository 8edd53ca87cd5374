;; What every stranger has in common: the contract's types, and what is between a core module and them. `lib.rs`
;; puts its parts in where a name stands in double braces.
(component
  (import "longshore:plugin/types@0.1.0" (instance $types
    (type $pair (tuple string string))
    (type $event (record
      (field "id" string) (field "type" string) (field "source" string) (field "delivery-id" string)
      (field "received-at-ms" u64) (field "signed-at-ms" (option u64)) (field "attempt" u32) (field "budget-ms" u32)
      (field "query" (option string)) (field "headers" (list $pair)) (field "body" (list u8)) (field "attributes" (list $pair))))
    (export "event" (type (eq $event)))
    (type $outcome (variant (case "done" (option string)) (case "skipped" (option string))))
    (export "outcome" (type (eq $outcome)))
    (type $retry (record (field "reason" string) (field "after-ms" (option u64))))
    (export "retry" (type $retry' (eq $retry)))
    (type $failure (variant (case "retry" $retry') (case "reject" string)))
    (export "failure" (type (eq $failure)))
    (type $setting-kind (enum "text" "number" "boolean" "json" "secret"))
    (export "setting-kind" (type $setting-kind' (eq $setting-kind)))
    (type $setting (record (field "key" string) (field "kind" $setting-kind') (field "required" bool) (field "default" (option string)) (field "help" string)))
    (export "setting" (type $setting' (eq $setting)))
    (type $manifest (record
      (field "name" string) (field "version" string) (field "description" string)
      (field "events" (list string)) (field "origins" (list string)) (field "settings" (list $setting'))))
    (export "manifest" (type (eq $manifest)))))
  (alias export $types "event" (type $event))
  (alias export $types "outcome" (type $outcome))
  (alias export $types "retry" (type $retry))
  (alias export $types "failure" (type $failure))
  (alias export $types "setting-kind" (type $setting-kind))
  (alias export $types "setting" (type $setting))
  (alias export $types "manifest" (type $manifest))

  (core module $memory
{{memory}}
  )
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))

{{host}}

  (core module $describe
    (import "memory" "memory" (memory 0))
{{describe}}
  )
  (core instance $describe (instantiate $describe (with "memory" (instance $memory))))

  (core module $code
    (import "memory" "memory" (memory 0))
    ;; At 1024: done, without a note. At 1088: rejected, `no more`. At 1280: a POST to a port where nobody listens.
    (data (i32.const 1088) "\01\00\00\00\00\00\00\00" "\01\00\00\00\00\00\00\00" "\80\04\00\00\07\00\00\00")
    (data (i32.const 1152) "no more")
    (data (i32.const 1280) "\80\05\00\00\04\00\00\00" "\00\00\00\00\90\05\00\00\17\00\00\00")
    (data (i32.const 1408) "POST")
    (data (i32.const 1424) "http://127.0.0.1:00001/")
{{code}}
  )
  (core instance $code (instantiate $code (with "memory" (instance $memory)) (with "host" (instance $host))))

  (func $describe (result $manifest)
    (canon lift (core func $describe "describe") (memory (core memory $mem)) (realloc (core func $realloc))))
  (func $handle (param "event" $event) (result (result $outcome (error $failure)))
    (canon lift (core func $code "handle") (memory (core memory $mem)) (realloc (core func $realloc)) {{post-return}}))

  ;; A component of its own, so that the exported functions speak of the exported types.
  (component $handler
    (type $pair (tuple string string))
    (type $event' (record
      (field "id" string) (field "type" string) (field "source" string) (field "delivery-id" string)
      (field "received-at-ms" u64) (field "signed-at-ms" (option u64)) (field "attempt" u32) (field "budget-ms" u32)
      (field "query" (option string)) (field "headers" (list $pair)) (field "body" (list u8)) (field "attributes" (list $pair))))
    (import "type-event" (type $event (eq $event')))
    (type $outcome' (variant (case "done" (option string)) (case "skipped" (option string))))
    (import "type-outcome" (type $outcome (eq $outcome')))
    (type $retry' (record (field "reason" string) (field "after-ms" (option u64))))
    (import "type-retry" (type $retry (eq $retry')))
    (type $failure' (variant (case "retry" $retry) (case "reject" string)))
    (import "type-failure" (type $failure (eq $failure')))
    (type $setting-kind' (enum "text" "number" "boolean" "json" "secret"))
    (import "type-setting-kind" (type $setting-kind (eq $setting-kind')))
    (type $setting' (record (field "key" string) (field "kind" $setting-kind) (field "required" bool) (field "default" (option string)) (field "help" string)))
    (import "type-setting" (type $setting (eq $setting')))
    (type $manifest' (record
      (field "name" string) (field "version" string) (field "description" string)
      (field "events" (list string)) (field "origins" (list string)) (field "settings" (list $setting))))
    (import "type-manifest" (type $manifest (eq $manifest')))
    (import "describe" (func $describe (result $manifest)))
    (import "handle" (func $handle (param "event" $event) (result (result $outcome (error $failure)))))
    (export $event-out "event" (type $event))
    (export $outcome-out "outcome" (type $outcome))
    (export "retry" (type $retry))
    (export $failure-out "failure" (type $failure))
    (export "setting-kind" (type $setting-kind))
    (export "setting" (type $setting))
    (export $manifest-out "manifest" (type $manifest))
    (export "describe" (func $describe) (func (result $manifest-out)))
    (export "handle" (func $handle) (func (param "event" $event-out) (result (result $outcome-out (error $failure-out))))))
  (instance $handler (instantiate $handler
    (with "type-event" (type $event)) (with "type-outcome" (type $outcome)) (with "type-retry" (type $retry))
    (with "type-failure" (type $failure)) (with "type-setting-kind" (type $setting-kind))
    (with "type-setting" (type $setting)) (with "type-manifest" (type $manifest))
    (with "describe" (func $describe)) (with "handle" (func $handle))))
  (export "longshore:plugin/handler@0.1.0" (instance $handler))
{{more}}
)
