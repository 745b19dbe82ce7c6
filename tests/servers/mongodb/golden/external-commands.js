// For mongosh, as an administrator; it may run again and again.
const declared = {
  "database": "shop",
  "collections": [
    "orders",
    "bills",
    "audit.log"
  ],
  "services": [
    {
      "user": "CN=orders,OU=services,O=shop.internal",
      "role": "watertight-orders",
      "privileges": [
        {
          "resource": {
            "db": "shop",
            "collection": "orders"
          },
          "actions": [
            "find",
            "insert",
            "update",
            "remove",
            "createIndex",
            "dropIndex",
            "listIndexes"
          ]
        },
        {
          "resource": {
            "db": "shop",
            "collection": "audit.log"
          },
          "actions": [
            "insert"
          ]
        }
      ]
    },
    {
      "user": "CN=billing,OU=services,O=shop.internal",
      "role": "watertight-billing",
      "privileges": [
        {
          "resource": {
            "db": "shop",
            "collection": "orders"
          },
          "actions": [
            "find"
          ]
        },
        {
          "resource": {
            "db": "shop",
            "collection": "bills"
          },
          "actions": [
            "find",
            "insert",
            "update"
          ]
        }
      ]
    },
    {
      "user": "CN=lobby,OU=services,O=shop.internal",
      "role": "watertight-lobby",
      "privileges": []
    }
  ]
};
const data = db.getSiblingDB(declared.database);
const external = db.getSiblingDB("$external");
const there = data.getCollectionNames();
const missing = declared.collections.filter(name => !there.includes(name));
missing.forEach(name => data.createCollection(name));
for (const one of declared.services) {
  const role = { privileges: one.privileges, roles: [] };
  if (data.getRole(one.role)) data.updateRole(one.role, role);
  else data.createRole({ role: one.role, ...role });
  const roles = [{ role: one.role, db: declared.database }];
  if (external.getUser(one.user)) external.updateUser(one.user, { roles });
  else external.createUser({ user: one.user, roles });
}
