-- What stands around the doors: engines, the registry, cancellation, reads.
local function release(id, limit)
  local owned = db('SMEMBERS', 'owned:' .. id)
  table.sort(owned)
  for n, run_id in ipairs(owned) do
    if n > limit then return 1 end
    local r = run(run_id)
    let_go(r)
    if not r.cancelled then queue_turn(r, now) end
  end
  return 0
end

local doors = {}

function doors.join()
  local others = 0
  for _, id in ipairs(db('HKEYS', 'engines')) do
    if lives(id) then
      others = 1
      told[id] = true
    end
  end
  engines[A.engine] = {number = 0, told = 0, lease = A.lease}
  return {others, finish(A.engine)}
end

function doors.leave()
  if lives(A.engine) then
    engine(A.engine).left = true
    release(A.engine, math.huge)
  end
  return {0, finish(A.engine)}
end

function doors.bury()
  local e = engine(A.engine)
  if not e or e.left then return {0, {}} end
  e.buried = true
  return {release(A.engine, 256), finish()}
end

function doors.extend() return lives(A.engine) and 1 or 0 end

function doors.sever()
  engine(A.engine).severed = true
  finish()
end

function doors.dead()
  local out = {}
  for _, id in ipairs(db('HKEYS', 'engines')) do
    local e = engine(id)
    local owns = db('SCARD', 'owned:' .. id) > 0
    if e.severed and not e.left and (not e.buried or owns) then table.insert(out, id) end
  end
  table.sort(out)
  return out
end

function doors.register()
  local changed = false
  for _, f in ipairs(A.functions) do
    if db('HGET', 'functions', f.name) ~= f.blob then
      changed = true
      db('HSET', 'functions', f.name, f.blob)
      for _, path in ipairs(f.paths) do db('SADD', 'paths', path) end
    end
  end
  if changed then counter('version') end
end

function doors.registry()
  local cursors, flat = {}, db('HGETALL', 'cursors')
  for n = 1, #flat, 2 do table.insert(cursors, {flat[n], cmsgpack.unpack(flat[n + 1]).at}) end
  return {count('version'), db('HGETALL', 'functions'), db('SMEMBERS', 'paused'), db('SMEMBERS', 'paths'), cursors}
end

function doors.pause()
  if db('HEXISTS', 'functions', A.fn) == 0 then return end
  if db(A.paused and 'SADD' or 'SREM', 'paused', A.fn) == 1 then counter('version') end
end

function doors.cancel()
  local out = {}
  for _, id in ipairs(A.runs) do
    local r = run(id)
    table.insert(out, r and cancel(r, A.reason) or 2)
  end
  return {out, finish()}
end

function doors.waiting()
  local out = {}
  table.insert(A.keys, '')
  for _, key in ipairs(A.keys) do
    for _, member in ipairs(db('ZRANGE', 'waits:' .. pair(A.name, key), 0, -1)) do
      local id, ref = split(member)
      local wait = run(id).waits[ref]
      if id > A.after and wait.condition and hears(wait) then table.insert(out, {id, ref, wait.blob}) end
    end
  end
  return {count('seq'), out}
end

function doors.history()
  local r = run(A.run)
  return r and history(r, true)
end

function doors.runs()
  local out = {}
  for _, id in ipairs(db('SMEMBERS', 'runs')) do table.insert(out, history(run(id), false)) end
  return out
end

function doors.events()
  local out = {}
  for _, seq in ipairs(db('HKEYS', 'events')) do table.insert(out, event_out(tonumber(seq))) end
  return out
end

return answer(doors[A.door]())
