{application, watertight_guard, [
    {description, "Holds services to their channels"},
    {vsn, "1.0.0"},
    {modules, [watertight_guard]},
    {registered, []},
    {applications, [kernel, stdlib, rabbit_common, rabbit]}
]}.
