%% What RabbitMQ's permissions cannot say: it holds our services to what their channels grant.
%%
%% A channel interceptor: it sees each method before the broker acts on it. Written without
%% RabbitMQ's headers, so that one source serves every version. Who is no service of ours, whose
%% name is a SPIFFE ID, passes.
-module(watertight_guard).

-behaviour(rabbit_channel_interceptor).

-export([description/0, init/1, applies_to/0, intercept/3]).

-rabbit_boot_step({?MODULE, [
    {description, "holds services to their channels"},
    {mfa, {rabbit_registry, register, [channel_interceptor, <<"watertight_guard">>, ?MODULE]}},
    {cleanup, {rabbit_registry, unregister, [channel_interceptor, <<"watertight_guard">>]}},
    {requires, rabbit_registry},
    {enables, recovery}
]}).

%% Places in #content{} and #'P_basic'{}.
-define(PROPERTIES, 3).
-define(HEADERS, 4).
%% A broker keeps each consumer in memory, 7 kB and its arguments, and has no bound of its own.
-define(USUAL_CONSUMERS, 1000).
-define(CONSUMERS_A_CHANNEL, 4).
-define(ARGUMENT_BYTES, 4096).

description() ->
    [{description, <<"Holds services to their channels">>}].

init(Channel) ->
    User = rabbit_channel:get_user(Channel),
    {element(2, User), User, rabbit_channel:get_vhost(Channel)}.

applies_to() ->
    [
        'basic.publish', 'basic.consume', 'basic.get', 'tx.select',
        'queue.declare', 'queue.purge', 'queue.bind', 'queue.unbind',
        'exchange.declare', 'exchange.bind', 'exchange.unbind'
    ].

%% It is called for every method, and for these answers the error itself: 3.10 takes no exit here.
intercept(Method, Content, {<<"spiffe://", _/binary>>, User, Host}) ->
    Name = element(1, Method),
    try
        waits(watertight_memory:waits(element(2, User))),
        {Method, judged(Name, Method, Content, User, Host)}
    catch
        throw:{refused, Text, Arguments} ->
            rabbit_misc:amqp_error(access_refused, Text, Arguments, Name)
    end;
intercept(Method, Content, _) ->
    {Method, Content}.

waits(0) -> ok;
waits(Seconds) -> refuse("it held the broker's memory, and does nothing for ~b s", [Seconds]).

%% Before 4.0.3, the routing keys in these headers are held against no permission.
judged('basic.publish', _, Content, _, _) ->
    Decoded = decoded(Content),
    case element(?HEADERS, element(?PROPERTIES, Decoded)) of
        undefined -> ok;
        Headers -> lists:foreach(fun addressed/1, Headers)
    end,
    Decoded;
%% Whoever reads alone or first, starves the others.
judged('basic.consume', Method, Content, User, _) ->
    field(exclusive, Method) andalso refuse("a queue is read beside others, not alone", []),
    Arguments = field(arguments, Method),
    lists:foreach(fun preferred/1, Arguments),
    erlang:external_size(Arguments) > ?ARGUMENT_BYTES andalso
        refuse("the arguments of a consumer have at most ~b bytes", [?ARGUMENT_BYTES]),
    Most = most_consumers(element(2, User)),
    consumers(element(2, User)) >= Most andalso
        refuse("a service has at most ~b consumers", [Most]),
    Content;
judged('queue.declare', Method, Content, User, Host) ->
    field(passive, Method) andalso known(queue, field(queue, Method), read, User, Host),
    Content;
judged('exchange.declare', Method, Content, User, Host) ->
    field(passive, Method) andalso known(exchange, field(exchange, Method), write, User, Host),
    Content;
judged(Name, _, Content, _, _) when Name =:= 'basic.get'; Name =:= 'tx.select' ->
    Content;
%% Who may read, may also purge; and bind, where a queue and an exchange share their name.
judged(Name, _, Content, _, _) ->
    Administration = ['queue.purge', 'queue.bind', 'queue.unbind', 'exchange.bind', 'exchange.unbind'],
    lists:member(Name, Administration) andalso refuse("~s is granted to nobody", [Name]),
    Content.

%% Else the channel ends with a crash report, for whoever may not even publish.
decoded(Content) ->
    try
        rabbit_binary_parser:ensure_content_decoded(Content)
    catch
        _:_ -> refuse("the properties of the message cannot be read", [])
    end.

%% Who declares more channels than usual, has more consumers, too.
most_consumers(User) ->
    case rabbit_auth_backend_internal:get_user_limits(User) of
        #{<<"max-channels">> := Channels} -> max(?USUAL_CONSUMERS, ?CONSUMERS_A_CHANNEL * Channels);
        _ -> ?USUAL_CONSUMERS
    end.

%% Of all channels of a user, as the queues have noted them.
consumers(User) ->
    Channels = ets:foldl(
        fun({Channel, Facts}, Found) ->
            case proplists:get_value(user, Facts) of
                User -> Found#{Channel => []};
                _ -> Found
            end
        end,
        #{},
        channel_created
    ),
    ets:foldl(
        fun(Row, Count) ->
            {_, Channel, _} = element(1, Row),
            Count + length([own || is_map_key(Channel, Channels)])
        end,
        0,
        consumer_created
    ).

addressed({<<"CC">>, _, _}) -> refuse("the header CC is granted to nobody", []);
addressed({<<"BCC">>, _, _}) -> refuse("the header BCC is granted to nobody", []);
addressed(_) -> ok.

preferred({<<"x-priority">>, _, Value}) when not is_integer(Value); Value > 0 ->
    refuse("a queue is read beside others, not before them", []);
preferred(_) ->
    ok.

%% Before 4.3.1, everybody may ask whether a queue is there, and how many messages it holds. One
%% permission alone explains it: a queue and an exchange may share their name.
known(Kind, Name, Permission, User, Host) ->
    %% The broker leaves these out of a name, too, but later.
    Plain = binary:replace(Name, [<<"\r">>, <<"\n">>], <<>>, [global]),
    Resource = rabbit_misc:r(Host, Kind, Plain),
    may(Permission, Resource, User)
        orelse refuse("~s '~s' is not granted", [Kind, Plain]).

may(Permission, Resource, User) ->
    try
        rabbit_access_control:check_resource_access(User, Resource, Permission, #{}) =:= ok
    catch
        exit:_ -> false
    end.

field(Name, Method) ->
    Names = rabbit_framing_amqp_0_9_1:method_fieldnames(element(1, Method)),
    element(2, lists:keyfind(Name, 1, lists:zip(Names, tl(tuple_to_list(Method))))).

-spec refuse(string(), list()) -> no_return().
refuse(Text, Arguments) ->
    throw({refused, Text, Arguments}).
