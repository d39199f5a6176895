-- An admission, by the door `admit` or inside a commit.
local function outdated(a) return not a.signal and a.registry < count('version') end

local function known(a)
  if a.once then
    local raw = db('HGET', 'once', pair(a.once.name, a.once.id))
    local was = raw and cmsgpack.unpack(raw)
    if was and now < was.at + 24 * 3600 * 1000 then return was end
  end
  local raw = a.cursor and db('HGET', 'cursors', a.cursor.name)
  local was = raw and cmsgpack.unpack(raw)
  if was and a.cursor.at <= was.at then return was end
end

local function hear(seq, a, decider)
  local members, seen, found, hits = {}, {}, {}, {}
  for _, hit in ipairs(a.hits) do hits[pair(hit.run, hit.ref)] = true end
  table.insert(a.keys, '')
  for _, key in ipairs(a.keys) do
    for _, member in ipairs(db('ZRANGE', 'waits:' .. pair(a.event.name, key), 0, -1)) do
      if not seen[member] then
        seen[member] = true
        table.insert(members, member)
      end
    end
  end
  table.sort(members)
  for _, member in ipairs(members) do
    local id, ref = split(member)
    local r = run(id)
    local wait = r.waits[ref]
    if wait and hears(wait) and not is_due(wait) then
      if not wait.condition or hits[member] then
        add_candidate(r, wait, seq, decider, true)
        resolve(r, wait)
      elseif wait.registered > a.as_of then
        add_candidate(r, wait, seq, decider)
        table.insert(found, {id, ref, wait.condition, event_out(seq)})
      end
    end
  end
  return found
end

local function create(plan, seqs, final, reason)
  local r = {id = plan.run, fn = plan.fn, priority = plan.priority, due = plan.due, created = now, gen = 0,
    attempt = 0, claim = 0, news = 0, events = seqs, parent = plan.parent, origin = plan.origin,
    finish = plan.finish, timers = {}, waits = {}, fired = {}}
  runs[r.id] = r
  db('SADD', 'runs', r.id)
  if final then
    r.final, r.reason, r.ended = final, reason, now
    never_ran(plan.parent, reason)
    return
  end
  for _, memo in ipairs(plan.memos) do
    db('HSET', 'run:' .. r.id, ':' .. int(memo.position), cmsgpack.pack(memo))
  end
  queue_turn(r, plan.due)
  for _, wait in ipairs(plan.waits) do register(r, wait) end
  if plan.start and not over(r) then set_timer(r, '!start', plan.start, CANCEL) end
end

local function decide_plan(plan, seqs)
  for _, latch in ipairs(plan.once) do
    local raw = db('HGET', 'latches', latch.key)
    local held = raw and cmsgpack.unpack(raw)
    if held and now < held.ends then
      never_ran(plan.parent, 'exists')
      return {4, plan.fn, held.run, false}
    end
  end
  if db('SISMEMBER', 'paused', plan.fn) == 1 then
    create(plan, seqs, 'skipped', 'paused')
    return {2, plan.fn, plan.run, 'paused'}
  end
  create(plan, seqs)
  for _, latch in ipairs(plan.once) do
    db('HSET', 'latches', latch.key, cmsgpack.pack({ends = now + latch.hold, run = plan.run}))
  end
  return {0, plan.fn, plan.run, false}
end

local function admit_one(a, decider)
  local was = known(a)
  if was then return {1, was.seq, was.outcomes} end
  local seq, candidates, outcomes, taken, seqs = count('seq'), {}, {}, 0, a.again
  if a.signal then
    local held = db('HGET', 'signals', a.signal.name)
    local id, ref = split(held or '\0')
    local wait = held and run(id).waits[ref]
    if wait and not is_due(wait) then
      taken = 1
      settle(run(id), wait, {ref = ref, cause = SIGNAL, at = now, value = a.signal.data})
    end
  elseif a.event then
    seq = counter('seq')
    seqs = {seq}
    db('HSET', 'events', int(seq), a.event.blob)
    db('HSET', 'received', int(seq), int(now))
    db('ZADD', 'named:' .. a.event.name, int(seq), int(seq))
    candidates = hear(seq, a, decider)
  end
  for _, plan in ipairs(a.plans) do table.insert(outcomes, decide_plan(plan, seqs)) end
  if a.once then
    local first = cmsgpack.pack({at = now, seq = seq, outcomes = outcomes})
    db('HSET', 'once', pair(a.once.name, a.once.id), first)
  end
  if a.cursor then
    db('HSET', 'cursors', a.cursor.name, cmsgpack.pack({at = a.cursor.at, seq = seq, outcomes = outcomes}))
  end
  return {0, seq, outcomes, candidates, taken}
end
