%% Whoever holds the memory that the broker is short of is shown out: others must not wait for him.
%%
%% At its watermark a broker makes all publishers wait until there is less. But what one client holds
%% (an open transaction, deliveries that it does not read) it may hold for ever, and a broker that does
%% not read a connection does not see its end either (rabbitmq-server, issue 384). So whose processes
%% hold most is found out; his connections are closed, and for a while he may only log in.
-module(watertight_memory).

-behaviour(gen_server).

-export([start_link/0, watch/0, waits/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-rabbit_boot_step({?MODULE, [
    {description, "shows out who holds the broker's memory"},
    {mfa, {?MODULE, watch, []}},
    {cleanup, {rabbit_sup, stop_child, [watertight_memory_sup]}},
    {requires, rabbit_alarm}
]}).

-define(OUT, ?MODULE).
-define(LOOK_MILLISECONDS, 20).
-define(CALM_MILLISECONDS, 100).
-define(COLLECT_MILLISECONDS, 400).
%% So long may publishers wait for a queue to write down what it got; then somebody holds it.
-define(PATIENCE_MILLISECONDS, 1000).
%% Between one who is shown out and the next: what he held must have been given back.
-define(AGAIN_MILLISECONDS, 200).
-define(CLOSE_MILLISECONDS, 500).
-define(OUT_SECONDS, 10).
-define(LONGEST_OUT_SECONDS, 320).
-define(FORGET_SECONDS, 600).

%% alarmed: since when; collected: whether garbage was, since; next: nobody is shown out before.
-record(state, {alarmed = never, collected = false, next, watermark}).

watch() ->
    rabbit_sup:start_restartable_child(?MODULE).

%% For how many more seconds a user may do nothing; 0: it may.
waits(User) ->
    try ets:lookup(?OUT, User) of
        [{User, Until, _}] -> max(0, Until - erlang:monotonic_time(second));
        [] -> 0
    catch
        %% It has just been started again, and knows nobody.
        error:badarg -> 0
    end.

start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

init([]) ->
    process_flag(priority, high),
    ?OUT = ets:new(?OUT, [named_table, protected, {read_concurrency, true}]),
    {ok, look_again(0, #state{
        next = erlang:monotonic_time(millisecond),
        %% That of its start, as configured: to ask takes long when it matters.
        watermark = vm_memory_monitor:get_memory_limit()
    })}.

handle_call(_, _, State) -> {reply, ok, State}.

handle_cast(_, State) -> {noreply, State}.

handle_info(look, State) ->
    Used = resident(),
    Watermark = State#state.watermark,
    %% The broker itself looks once a second, in which a publisher on loopback sends several hundred MiB.
    Used > Watermark * 0.8 andalso (vm_memory_monitor ! update),
    Now = erlang:monotonic_time(millisecond),
    {noreply, look_again(Used, judged(Used, Watermark, Now, State))};
handle_info(_, State) ->
    {noreply, State}.

%% proc(5): pages have other sizes elsewhere, and this is in kB.
resident() ->
    {ok, File} = file:open("/proc/self/status", [read, raw, binary]),
    {ok, Lines} = file:read(File, 4096),
    ok = file:close(File),
    [_, Resident] = binary:split(Lines, <<"VmRSS:">>),
    [Number, _] = binary:split(Resident, <<" kB">>),
    binary_to_integer(string:trim(Number)) * 1024.

look_again(Used, State = #state{watermark = Watermark}) when Used > Watermark div 2 ->
    erlang:send_after(?LOOK_MILLISECONDS, self(), look),
    State;
look_again(_, State) ->
    erlang:send_after(?CALM_MILLISECONDS, self(), look),
    State.

%% Half as much again as makes publishers wait: it cannot wait for anything itself.
judged(Used, Watermark, Now, State = #state{next = Next}) when Used > Watermark * 1.5 ->
    case Now >= Next of
        true -> shown_out(Watermark, at_once, Now, State);
        false -> State
    end;
judged(Used, Watermark, Now, State = #state{alarmed = never}) when Used > Watermark ->
    State#state{alarmed = Now, collected = false};
judged(Used, Watermark, Now, State = #state{alarmed = Since, collected = Collected, next = Next}) when
    Used > Watermark
->
    if
        not Collected, Now - Since >= ?COLLECT_MILLISECONDS ->
            [collect(P) || {_, _, Processes} <- holders(), P <- Processes],
            State#state{collected = true};
        Now - Since >= ?PATIENCE_MILLISECONDS, Now >= Next ->
            shown_out(Watermark, politely, Now, State);
        true ->
            State
    end;
judged(_, _, _, State) ->
    State#state{alarmed = never}.

collect(Process) ->
    catch erlang:garbage_collect(Process, [{async, Process}]).

shown_out(Watermark, How, Now, State) ->
    Holders = [{bytes(Processes), User, Readers, Processes} || {User, Readers, Processes} <- holders()],
    case lists:reverse(lists:keysort(1, Holders)) of
        [{Bytes, User, Readers, Processes} | _] when Bytes > Watermark div 8 ->
            Seconds = out(User),
            %% Whatever these still have to do: the readers take note of it, and end.
            How =:= at_once andalso
                [exit(P, kill) || P <- Processes, works_in([rabbit_channel, rabbit_writer], P)],
            [spawn(fun() -> close(Reader, How) end) || Reader <- Readers],
            logger:warning(
                "~s holds ~b MiB of the broker's memory: its ~b connections are closed, and for ~b s "
                "it may do nothing",
                [User, Bytes bsr 20, length(Readers), Seconds]
            );
        _ ->
            ok
    end,
    State#state{next = Now + ?AGAIN_MILLISECONDS + grace(How)}.

grace(at_once) -> 0;
grace(politely) -> ?CLOSE_MILLISECONDS.

%% Twice as long as the last time, if that is not long ago.
out(User) ->
    Now = erlang:monotonic_time(second),
    Seconds =
        case ets:lookup(?OUT, User) of
            [{User, Until, Last}] when Now - Until < ?FORGET_SECONDS ->
                min(2 * Last, ?LONGEST_OUT_SECONDS);
            _ ->
                ?OUT_SECONDS
        end,
    ets:insert(?OUT, {User, Now + Seconds, Seconds}),
    Seconds.

%% Service → its readers, and all processes that work for them.
holders() ->
    Of = lists:foldl(
        fun({Reader, Facts}, Found) ->
            case proplists:get_value(user, Facts) of
                User = <<"spiffe://", _/binary>> -> Found#{Reader => User};
                _ -> Found
            end
        end,
        #{},
        ets:tab2list(connection_created)
    ),
    Channels = lists:foldl(
        fun({Channel, Facts}, Found) ->
            Reader = proplists:get_value(connection, Facts),
            Found#{Reader => [Channel | maps:get(Reader, Found, [])]}
        end,
        #{},
        ets:tab2list(channel_created)
    ),
    Users = maps:fold(
        fun(Reader, User, Found) ->
            {Readers, Processes} = maps:get(User, Found, {[], []}),
            Its = [Reader | transport(Reader)] ++
                lists:flatmap(fun beside/1, maps:get(Reader, Channels, [])),
            Found#{User => {[Reader | Readers], Its ++ Processes}}
        end,
        #{},
        Of
    ),
    [{User, Readers, lists:usort(Its)} || {User, {Readers, Its}} <- maps:to_list(Users)].

%% What does TLS for a reader watches it; its sender is linked to it.
transport(Reader) ->
    TLS = [P || P <- related(Reader, monitored_by), works_in([tls_connection, tls_gen_connection, ssl_gen_statem], P)],
    TLS ++ [Sender || P <- TLS, Sender <- related(P, links)].

works_in(Modules, Process) ->
    {Module, _, _} = proc_lib:translate_initial_call(Process),
    lists:member(Module, Modules).

%% A channel, its writer and its limiter have one supervisor.
beside(Channel) ->
    [Channel | lists:flatmap(fun(P) -> related(P, links) end, related(Channel, links))].

related(Process, How) ->
    case process_info(Process, How) of
        {How, Found} -> [P || P <- Found, is_pid(P), node(P) =:= node()];
        undefined -> []
    end.

ports(Process) ->
    case process_info(Process, links) of
        {links, Found} -> [Port || Port <- Found, is_port(Port)];
        undefined -> []
    end.

%% What waits in a mailbox is not among a process's binaries.
bytes(Processes) ->
    {Sum, Binaries} = lists:foldl(
        fun(Process, {Sum, Seen}) ->
            case process_info(Process, [memory, binary, message_queue_len]) of
                [{memory, Own}, {binary, Its}, {message_queue_len, Waiting}] ->
                    {
                        Sum + Own + mailbox(Process, Waiting),
                        lists:foldl(fun({Id, Size, _}, Found) -> Found#{Id => Size} end, Seen, Its)
                    };
                undefined ->
                    {Sum, Seen}
            end
        end,
        {0, #{}},
        Processes
    ),
    Sum + lists:sum(maps:values(Binaries)).

mailbox(_, 0) ->
    0;
mailbox(Process, _) ->
    case process_info(Process, messages) of
        {messages, Waiting} -> erlang:external_size(Waiting);
        undefined -> 0
    end.

%% In AMQP's words, if it hears them in time. A reader that waits for its own TLS hears nothing.
close(Reader, How) ->
    Watch = monitor(process, Reader),
    How =:= politely andalso
        spawn(fun() -> catch rabbit_reader:shutdown(Reader, "it holds the broker's memory") end),
    gone(Watch) orelse (Reader ! terminate_connection),
    gone(Watch) orelse [catch port_close(Port) || P <- transport(Reader), Port <- ports(P)].

gone(Watch) ->
    receive
        {'DOWN', Watch, process, _, _} = Said ->
            self() ! Said,
            true
    after ?CLOSE_MILLISECONDS -> false
    end.
