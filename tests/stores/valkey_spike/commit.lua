-- The door `commit`: each item passes its fence, or is refused before anything is written.
local function write(r, c)
  for _, ref in ipairs(c.drop) do
    drop_timer(r, ref)
    drop_wait(r, ref)
    drop_fired(r, function(fired) return fired.ref ~= ref end)
  end
  local key = 'run:' .. r.id
  if c.forget then
    local flat = db('HGETALL', key)
    for n = 1, #flat, 2 do
      if string.sub(flat[n], 1, 1) == ':' and cmsgpack.unpack(flat[n + 1]).state >= 2 then
        db('HDEL', key, flat[n])
      end
    end
  end
  for _, memo in ipairs(c.memos) do db('HSET', key, ':' .. int(memo.position), cmsgpack.pack(memo)) end
  r.attempt = c.attempt or r.attempt
  for _, t in ipairs(c.timers) do set_timer(r, t.ref, t.due, t.effect, t.blob) end
  for _, wait in ipairs(c.waits) do register(r, wait) end
end

local function admit_all(r, admissions, out)
  for _, a in ipairs(admissions) do
    local answer = admit_one(a, A.engine)
    table.insert(out, answer)
    local field = a.memo and ':' .. int(a.memo)
    local raw = a.signal and field and db('HGET', 'run:' .. r.id, field)
    if raw and answer[1] == 0 then
      local memo = cmsgpack.unpack(raw)
      memo.value = answer[5] == 1 and 'true' or 'false'
      db('HSET', 'run:' .. r.id, field, cmsgpack.pack(memo))
    end
  end
  return out
end

local function give_back(r, go)
  if r.owner and go.kind ~= 'stay' then let_go(r) end
end

local function has_fired(r, seen)
  local known = {}
  for _, ref in ipairs(seen) do known[ref] = true end
  for _, fired in ipairs(r.fired) do
    if not known[fired.ref] then return true end
  end
  return false
end

local function go_on(r, go)
  if go.kind == 'park' then
    let_go(r, go.affinity)
    if has_fired(r, go.seen) and not r.timers[''] then queue_turn(r, now) end
  elseif go.kind == 'yield' then
    let_go(r, go.affinity)
    queue_turn(r, now)
  elseif go.kind == 'end' then
    end_run(r, go)
  end
end

local function commit_one(c)
  local r = run(c.run)
  if not r or not lives(A.engine) or r.final or r.gen ~= c.gen then return {1, {}} end
  if r.owner ~= A.engine and (r.owner or r.affinity ~= A.engine) then return {1, {}} end
  if r.cancelled and c.go.status ~= 'cancelled' then
    give_back(r, c.go)
    return {2, {}}
  end
  local announces = c.go.admit or {}
  for _, a in ipairs(announces) do
    if outdated(a) then return {3, {}} end
  end
  if r.cancelled then
    end_run(r, c.go)
    return {0, admit_all(r, announces, {})}
  end
  for _, a in ipairs(c.admit) do
    if outdated(a) then return {3, {}} end
  end
  local taken_back = not r.owner
  if taken_back then
    unqueue(r)
    r.owner, r.affinity = A.engine, nil
    db('SADD', 'owned:' .. A.engine, r.id)
  end
  write(r, c)
  local admitted = admit_all(r, c.admit, {})
  if r.cancelled then
    give_back(r, c.go)
    return {2, admitted}
  end
  go_on(r, c.go)
  if taken_back and r.owner and #r.fired > 0 then tell(r) end
  return {0, admit_all(r, announces, admitted)}
end

local function decide(v)
  local r = run(v.run)
  local wait = r and r.waits[v.ref]
  if not wait then return end
  for n, c in ipairs(wait.candidates) do
    if c.seq == v.seq and not c.yes then
      db('ZREM', 'candidates', candidacy(c.seq, r.id, v.ref))
      if v.matches then
        c.yes = true
        while #wait.candidates > n do
          db('ZREM', 'candidates', candidacy(table.remove(wait.candidates).seq, r.id, v.ref))
        end
        while #wait.unscanned > 0 and wait.unscanned[#wait.unscanned] > v.seq do table.remove(wait.unscanned) end
      else
        table.remove(wait.candidates, n)
      end
      return resolve(r, wait)
    end
  end
end

local out, told_now = {}, {}
for _, item in ipairs(A.items) do
  if item.seq then
    if lives(A.engine) then decide(item) end
    table.insert(out, {0, {}})
  else
    table.insert(out, commit_one(item))
  end
end
if lives(A.engine) then told_now = deliveries(A.engine, engine(A.engine).told, {}) end
return answer({out, told_now, finish(A.engine)})
