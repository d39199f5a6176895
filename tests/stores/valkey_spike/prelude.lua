-- What all doors share: state, queues, timers, waits. A run is one table, kept whole in one field of its hash;
-- it is read once a call and written once, at the end (`finish`). Users' bytes are strings that nobody opens.
local P, A = KEYS[1], cmsgpack.unpack(ARGV[1])
local now = A.now

-- A call that is repeated, since its answer was lost, is answered as it was and does nothing. (Expiry is real
-- time, which nothing but such tokens may depend on.)
local token = A.token and P .. 'token:' .. A.token
local was = token and redis.call('GET', token)
if was then return cmsgpack.unpack(was) end
local function answer(reply)
  if token then redis.call('SET', token, cmsgpack.pack(reply), 'PX', 60000) end
  return reply
end

local RESUME, CANCEL = 0, 1
local DUE, EVENT, CHILD, SIGNAL, REPLACED, CONFLICT = 0, 1, 2, 3, 4, 5

local function db(command, key, ...) return redis.call(command, P .. key, ...) end
local function int(n) return string.format('%.0f', n) end
local function pair(run, ref) return run .. '\0' .. ref end
local function split(member)
  local at = string.find(member, '\0', 1, true)
  return string.sub(member, 1, at - 1), string.sub(member, at + 1)
end
local function counter(name) return tonumber(db('HINCRBY', 'counters', name, 1)) end
local function count(name) return tonumber(db('HGET', 'counters', name) or 0) end

local function cached(read)
  local known = {}
  return function(id)
    if id and known[id] == nil then
      local raw = read(id)
      known[id] = raw and cmsgpack.unpack(raw) or false
    end
    return id and known[id] or false
  end, known
end
local engine, engines = cached(function(id) return db('HGET', 'engines', id) end)
local run, runs = cached(function(id) return db('HGET', 'run:' .. id, 'state') end)
local function lives(id)
  local e = engine(id)
  return e and not e.left and not e.buried
end
local function over(r) return r.cancelled or r.final end

-- ------------------------------------------------------------ turns and telling

local fresh, told = {}, {}

local function ripen(r)
  r.turn.ripe = true
  db('ZREM', 'later', r.id)
  db('ZADD', 'ready:' .. r.fn, int(r.turn.rank), r.id)
end

local function queue_turn(r, due)
  local n = counter('jobs')
  r.turn = {n = n, due = due, rank = (due - 1000 * r.priority) * 1024 + n % 1024}
  fresh[r.id] = true
  if due <= now then ripen(r) else db('ZADD', 'later', int(due), r.id) end
end

local function unqueue(r)
  db('ZREM', 'later', r.id)
  db('ZREM', 'ready:' .. r.fn, r.id)
  r.turn = nil
end

local function ripen_all()
  for _, id in ipairs(db('ZRANGEBYSCORE', 'later', '-inf', int(now))) do ripen(run(id)) end
end

local function number(r)
  local e = engine(r.owner)
  e.number = e.number + 1
  db('ZADD', 'told:' .. r.owner, int(e.number), r.id)
  return e.number
end

local function tell(r)
  if r.owner then
    r.news = number(r)
    told[r.owner] = true
  end
end

local function fire(r, fired)
  if over(r) then return end
  for _, other in ipairs(r.fired) do
    if other.ref == fired.ref then return end
  end
  table.insert(r.fired, fired)
  if r.owner then
    tell(r)
  elseif not r.turn and not r.timers[''] then
    queue_turn(r, fired.at)
  end
end

-- ------------------------------------------------------------ timers and waits

local function timed(kind, n, id, ref) return string.format('%016.0f', n) .. kind .. pair(id, ref) end
local function candidacy(seq, id, ref) return string.format('%016.0f', seq) .. pair(id, ref) end

local function drop_timer(r, ref)
  local timer = r.timers[ref]
  if timer then db('ZREM', 'timed', timed('t', timer.n, r.id, ref)) end
  r.timers[ref] = nil
end

local function set_timer(r, ref, due, effect, blob)
  drop_timer(r, ref)
  local n = counter('jobs')
  r.timers[ref] = {n = n, ref = ref, due = due, effect = effect, blob = blob or false}
  db('ZADD', 'timed', int(due), timed('t', n, r.id, ref))
end

local function drop_wait(r, ref)
  local wait = r.waits[ref]
  if not wait then return 0 end
  local member = pair(r.id, ref)
  db('ZREM', 'timed', timed('w', wait.n, r.id, ref))
  if wait.event then db('ZREM', 'waits:' .. pair(wait.event, wait.index), member) end
  if wait.signal then db('HDEL', 'signals', wait.signal) end
  if wait.child then db('SREM', 'child:' .. wait.child, member) end
  for _, c in ipairs(wait.candidates) do db('ZREM', 'candidates', candidacy(c.seq, r.id, ref)) end
  r.waits[ref] = nil
  return wait.started
end

local function drop_fired(r, keep)
  local left = {}
  for _, fired in ipairs(r.fired) do
    if keep(fired) then table.insert(left, fired) end
  end
  r.fired = left
end

local function child_ended(ref, child, started)
  local fired = {ref = ref, cause = CHILD, at = now, status = child.final or 'cancelled', started = started}
  if fired.status == 'completed' then fired.value = child.output end
  if fired.status == 'failed' then fired.value = child.error end
  if fired.status == 'skipped' then fired.value = '"' .. child.reason .. '"' end
  return fired
end

local function never_ran(parent, reason)
  local r = parent and run(parent.run)
  local wait = r and r.waits[parent.ref]
  if wait and wait.child then
    local started = drop_wait(r, parent.ref)
    fire(r, {ref = parent.ref, cause = CHILD, at = now, status = 'skipped', value = '"' .. reason .. '"',
      started = started})
  end
end

local function tell_parents(child)
  local members = db('SMEMBERS', 'child:' .. child.id)
  local parent = child.parent
  if parent and run(parent.run) then
    local wait = run(parent.run).waits[parent.ref]
    if wait and wait.child and wait.child ~= child.id then
      table.insert(members, pair(parent.run, parent.ref))
    end
  end
  table.sort(members)
  for _, member in ipairs(members) do
    local id, ref = split(member)
    local started = drop_wait(run(id), ref)
    fire(run(id), child_ended(ref, child, started))
  end
end

-- ------------------------------------------------------------ the ways out

local function let_go(r, affinity)
  if r.owner then
    db('SREM', 'owned:' .. r.owner, r.id)
    db('ZREM', 'told:' .. r.owner, r.id)
  end
  r.owner, r.affinity, r.claim, r.news = nil, affinity, 0, 0
  if r.cancelled and not r.final then queue_turn(r, now) end
end

local function clear(r)
  unqueue(r)
  local refs = {}
  for ref in pairs(r.timers) do table.insert(refs, ref) end
  for _, ref in ipairs(refs) do drop_timer(r, ref) end
  refs = {}
  for ref in pairs(r.waits) do table.insert(refs, ref) end
  for _, ref in ipairs(refs) do drop_wait(r, ref) end
  r.fired = {}
end

local function cancel(r, reason)
  if over(r) then return 1 end
  clear(r)
  r.cancelled, r.reason = true, reason
  tell_parents(r)
  if r.owner then tell(r) else queue_turn(r, now) end
  return 0
end

local function end_run(r, go)
  local was_told = r.cancelled
  clear(r)
  r.final, r.output, r.error, r.unmet, r.ended = go.status, go.output, go.error, go.unmet, now
  let_go(r)
  if not was_told then tell_parents(r) end
end

-- ------------------------------------------------------------ what waits hear

local function settle(r, wait, fired)
  drop_wait(r, wait.ref)
  fired.started = wait.started
  if wait.effect == CANCEL then cancel(r, wait.ref) else fire(r, fired) end
end

local function time_is_up(r, wait)
  drop_wait(r, wait.ref)
  if wait.effect == RESUME and wait.deadline then
    fire(r, {ref = wait.ref, cause = DUE, at = wait.deadline, started = wait.started})
  end
end

local function hears(wait)
  local last = wait.candidates[#wait.candidates]
  return not wait.closed and not (last and last.yes)
end

local function is_due(wait) return wait.deadline and wait.deadline <= now end

local function add_candidate(r, wait, seq, decider, yes)
  table.insert(wait.candidates, {seq = seq, decider = decider, yes = yes})
  if not yes then db('ZADD', 'candidates', '0', candidacy(seq, r.id, wait.ref)) end
end

local function next_page(r, wait)
  for _, c in ipairs(wait.candidates) do
    if c.seq <= wait.registered then return end
  end
  local left = {}
  for n, seq in ipairs(wait.unscanned) do
    if n <= 256 then add_candidate(r, wait, seq) else table.insert(left, seq) end
  end
  wait.unscanned = left
  table.sort(wait.candidates, function(a, b) return a.seq < b.seq end)
end

local function resolve(r, wait)
  if #wait.unscanned > 0 then next_page(r, wait) end
  local first = wait.candidates[1]
  if not first then
    if wait.closed then time_is_up(r, wait) end
  elseif first.yes then
    settle(r, wait, {ref = wait.ref, cause = EVENT, at = now, seq = first.seq})
  end
end

local function look_back(wait, before)
  local found = {}
  if not (wait.since_seq or wait.since_ms) then return found end
  for _, text in ipairs(db('ZRANGEBYSCORE', 'named:' .. wait.event, '-inf', int(before))) do
    local seq = tonumber(text)
    local received = tonumber(db('HGET', 'received', text))
    if (wait.since_seq and seq > wait.since_seq) or (wait.since_ms and received >= wait.since_ms) then
      table.insert(found, seq)
    end
  end
  return found
end

local function register(r, wait)
  if over(r) then return end
  drop_wait(r, wait.ref)
  wait.candidates, wait.unscanned = {}, {}
  if wait.signal then
    local held = db('HGET', 'signals', wait.signal)
    if held and not wait.replace then
      return settle(r, wait, {ref = wait.ref, cause = CONFLICT, at = now})
    elseif held then
      local id, ref = split(held)
      local started = drop_wait(run(id), ref)
      fire(run(id), {ref = ref, cause = REPLACED, at = now, started = started})
    end
  end
  local child = run(wait.child)
  if child and over(child) then return settle(r, wait, child_ended(wait.ref, child)) end
  if wait.event and wait.path and db('SADD', 'paths', pair(wait.event, wait.path)) == 1 then
    counter('version')
  end
  local before, member = count('seq'), pair(r.id, wait.ref)
  wait.registered = wait.event and counter('seq') or before
  wait.n = counter('jobs')
  r.waits[wait.ref] = wait
  if wait.event then
    db('ZADD', 'waits:' .. pair(wait.event, wait.index), '0', member)
    wait.unscanned = look_back(wait, before)
  end
  if wait.signal then db('HSET', 'signals', wait.signal, member) end
  if wait.child then db('SADD', 'child:' .. wait.child, member) end
  if wait.deadline then db('ZADD', 'timed', int(wait.deadline), timed('w', wait.n, r.id, wait.ref)) end
  resolve(r, wait)
end

-- ------------------------------------------------------------ what Python reads

local function event_out(seq)
  local got = db('HMGET', 'events', int(seq))
  return {seq, tonumber(db('HGET', 'received', int(seq)) or 0), got[1]}
end

local function fired_out(r)
  local out = {}
  for _, f in ipairs(r.fired) do
    table.insert(out, {f.ref, f.cause, f.at, f.seq and event_out(f.seq) or false, f.status or false,
      f.value or false, f.timer and {f.timer.blob, f.timer.ref, f.timer.due, f.timer.effect} or false,
      f.started or 0})
  end
  return out
end

local function status(r)
  if r.final then return r.final end
  if r.cancelled then return 'cancelled' end
  return r.owner and 'running' or r.turn and 'queued' or 'waiting'
end

local function memos_out(r)
  local flat, memos = db('HGETALL', 'run:' .. r.id), {}
  for n = 1, #flat, 2 do
    if string.sub(flat[n], 1, 1) == ':' then
      local memo = cmsgpack.unpack(flat[n + 1])
      table.insert(memos, {memo.position, memo.blob, memo.value or false})
    end
  end
  table.sort(memos, function(a, b) return a[1] < b[1] end)
  return memos
end

local function history(r, with_memos)
  local events, timers, waits = {}, {}, {}
  for _, seq in ipairs(r.events) do table.insert(events, event_out(seq)) end
  for _, t in pairs(r.timers) do table.insert(timers, {t.blob, t.ref, t.due, t.effect}) end
  table.sort(timers, function(a, b) return a[3] < b[3] or a[3] == b[3] and a[2] < b[2] end)
  for _, w in pairs(r.waits) do table.insert(waits, {w.ref, w.blob}) end
  table.sort(waits, function(a, b) return a[1] < b[1] end)
  local record = {r.id, r.fn, status(r), r.gen, r.created, r.due, r.started or false, r.ended or false,
    r.attempt, r.parent and {r.parent.run, r.parent.ref} or false, r.output or false, r.error or false,
    r.reason or false, false, r.origin or false, r.unmet or {}}
  return {record, events, with_memos and memos_out(r) or {}, timers, waits, fired_out(r)}
end

local function deliveries(id, above, warm)
  local out = {}
  for _, run_id in ipairs(db('ZRANGEBYSCORE', 'told:' .. id, '(' .. int(above), '+inf')) do
    local r = run(run_id)
    if r.claim > above then
      table.insert(out, {0, r.claim, history(r, not warm[run_id]), warm[run_id] and 1 or 0})
    elseif r.news > above then
      table.insert(out, {1, r.news, r.id, r.gen, fired_out(r), r.cancelled and 1 or 0})
    end
  end
  table.sort(out, function(a, b) return a[2] < b[2] end)
  engine(id).told = engine(id).number
  return out
end

-- ------------------------------------------------------------ claiming, and the last words

local function take(r, id)
  unqueue(r)
  local warm = r.affinity == id
  r.owner, r.affinity, r.news, r.gen = id, nil, 0, r.gen + 1
  db('SADD', 'owned:' .. id, r.id)
  r.claim = number(r)
  if not r.cancelled and not r.started then
    r.started = now
    drop_timer(r, '!start')
    if r.finish then set_timer(r, '!finish', now + r.finish, CANCEL) end
  end
  return warm
end

-- The best turn of these pools; one queued before job number `since` shuts its pool (`admit` overtakes nobody).
local function best(pools, since)
  local found
  for _, pool in ipairs(pools) do
    local head = db('ZRANGE', 'ready:' .. pool, 0, 0)[1]
    local r = head and run(head)
    if r and r.turn.n > since and (not found or r.turn.rank < found.turn.rank) then found = r end
  end
  return found
end

local function take_best(request, since)
  local warm = {}
  for _ = 1, request.limit do
    local r = best(request.pools, since)
    if not r then break end
    if take(r, request.engine) then warm[r.id] = true end
  end
  return warm
end

local function finish(caller)
  local woke, seen = {}, {}
  for id in pairs(fresh) do
    local r = run(id)
    if r.turn and r.turn.ripe and not seen[r.fn] then
      seen[r.fn] = true
      table.insert(woke, r.fn)
    end
  end
  for id, r in pairs(runs) do
    if r then db('HSET', 'run:' .. id, 'state', cmsgpack.pack(r)) end
  end
  for id, e in pairs(engines) do
    if e then db('HSET', 'engines', id, cmsgpack.pack(e)) end
  end
  for _, id in ipairs(db('HKEYS', 'engines')) do
    local heard = told[id] or #woke > 0
    if heard and id ~= caller and lives(id) and db('LLEN', 'bell:' .. id) == 0 then
      db('LPUSH', 'bell:' .. id, '1')
    end
  end
  return woke
end
