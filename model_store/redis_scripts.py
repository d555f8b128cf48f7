"""Lua scripts for changes that must be atomic in Redis, version 5 or newer. ``redis_keys`` lists the keys."""

from model_store.removals import MOST_ENTRIES

# Removes versions, and the examples that no other version has. ``examples:N`` is a row of 16-byte digests.
_REMOVE_VERSIONS = """
local function remove_versions(task, numbers, removal)
  local newest = tonumber(redis.call('HGET', task, 'current') or '0')
  local orphans, found = {}, 0
  for number in string.gmatch(numbers, '%d+') do
    local list = redis.call('HGET', task, 'examples:' .. number)
    if tonumber(number) ~= newest and redis.call('HDEL', task, 'record:' .. number) == 1 then
      redis.call('HDEL', task, 'id:' .. number, 'adapter:' .. number, 'support:' .. number, 'examples:' .. number)
      if removal ~= '' then
        redis.call('HSET', task, 'removed:' .. number, removal)
        redis.call('HDEL', task, 'removed:' .. (tonumber(number) - MOST_ENTRIES))
      end
      found = found + 1
      for i = 1, #(list or ''), 16 do orphans[string.sub(list, i, i + 15)] = true end
    end
  end
  for number = newest, 1, -1 do
    if next(orphans) == nil then break end
    local list = redis.call('HGET', task, 'examples:' .. number) or ''
    for i = 1, #list, 16 do orphans[string.sub(list, i, i + 15)] = nil end
  end
  for digest in pairs(orphans) do redis.call('HDEL', task, 'example:' .. digest) end
  return found
end
""".replace("MOST_ENTRIES", str(MOST_ENTRIES))
_FORGET_ANSWERS = """
local function forget_answers(answers)
  for _, once in ipairs(redis.call('SMEMBERS', answers)) do redis.call('UNLINK', once) end
  redis.call('UNLINK', answers)
end
"""

# A repeated commit, sent again because the first reply was lost, finds its own adapter_id and succeeds.
COMMIT = (
    _REMOVE_VERSIONS
    + _FORGET_ANSWERS
    + """
local task, tasks, once, answers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local expected, version, adapter_id, record, adapter, ttl_ms, name, now = unpack(ARGV, 1, 8)
local support_given, support, answer_given, answer, answer_ttl_ms, expected_id, erased, digests = unpack(ARGV, 9, 16)
local removal = ARGV[17]
if redis.call('HGET', task, 'id:' .. version) == adapter_id then
  return {'done', ''}
end
if answer_given == '1' then
  local seen = redis.call('GET', once)
  if seen then return {'replay', seen} end
end
local current = redis.call('HGET', task, 'current') or '0'
local current_id = redis.call('HGET', task, 'adapter_id')
if current ~= expected or (expected_id ~= '' and expected_id ~= current_id) then return {'conflict', current} end
redis.call('HSET', task, 'current', version, 'adapter_id', adapter_id, 'id:' .. version, adapter_id,
           'record:' .. version, record, 'adapter:' .. version, adapter)
redis.call('HSETNX', task, 'created_at', now)
if support_given == '1' then
  redis.call('HSET', task, 'support:' .. version, support, 'examples:' .. version, digests)
  for i = 1, #digests, 16 do
    redis.call('HSET', task, 'example:' .. string.sub(digests, i, i + 15), ARGV[18 + (i - 1) / 16])
  end
end
if erased ~= '' then
  remove_versions(task, erased, removal)
  forget_answers(answers)
end
if ttl_ms == '' then redis.call('PERSIST', task) else redis.call('PEXPIRE', task, ttl_ms) end
redis.call('ZADD', tasks, 0, name)
if answer_given == '1' then
  redis.call('SET', once, answer, 'PX', answer_ttl_ms)
  redis.call('SADD', answers, once)
  redis.call('PEXPIRE', answers, answer_ttl_ms)
end
return {'done', ''}
"""
)

# ``DELETE`` has the reason for the token
DELETE_VERSIONS = (
    _REMOVE_VERSIONS
    + _FORGET_ANSWERS
    + """
local task, answers, token = KEYS[1], KEYS[2], KEYS[3]
local found = redis.call('GET', token)
if found then return tonumber(found) end
found = remove_versions(task, ARGV[1], ARGV[3])
if ARGV[2] == '0' then forget_answers(answers) end
if found > 0 then redis.pcall('SET', token, found, 'PX', 60000) end
return found
"""
)

# A repeated deletion, sent again because the first reply was lost, finds its own token and gives the same answer
DELETE = (
    _FORGET_ANSWERS
    + """
local task, tasks, answers, token = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if redis.call('EXISTS', token) == 1 then return 1 end
redis.call('ZREM', tasks, ARGV[1])
forget_answers(answers)
local found = redis.call('UNLINK', task)
-- pcall: a full server deletes, but takes no token
if found == 1 then redis.pcall('SET', token, '', 'PX', 60000) end
return found
"""
)

# A task that expired leaves its name in the list; it goes only if the task was not made anew meanwhile.
FORGET_EXPIRED = """
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
"""
