{application, watertight_guard, [
    {description, "Holds services to their channels"},
    {vsn, "1.0.0"},
    {modules, [watertight_guard, watertight_memory]},
    {registered, [watertight_memory]},
    {applications, [kernel, stdlib, rabbit_common, rabbit]}
]}.
