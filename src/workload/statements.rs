//! The database statements the platform's services run.
//!
//! Read [`Statement`].

/// A statement against one database.
#[derive(Debug)]
pub(super) struct Statement {
    /// `db.system.name`.
    pub(super) system: &'static str,
    /// `db.namespace`.
    pub(super) namespace: &'static str,
    /// `db.collection.name`; empty where it has none.
    pub(super) collection: &'static str,
    /// `db.operation.name`.
    pub(super) operation: &'static str,
    /// `db.query.text`; `{}` stands for a value that differs from call to call.
    pub(super) text: &'static str,
    /// The median duration.
    pub(super) micros: f64,
}

const fn statement(
    system: &'static str,
    [namespace, collection, operation]: [&'static str; 3],
    text: &'static str,
    micros: f64,
) -> Statement {
    Statement {
        system,
        namespace,
        collection,
        operation,
        text,
        micros,
    }
}

macro_rules! statements {
    ($($name:ident: $system:literal $place:expr, $text:literal, $micros:literal;)*) => {
        $(pub(super) static $name: Statement = statement($system, $place, $text, $micros);)*
    };
}

statements! {
    ACCOUNT_BY_ID: "postgresql" ["accounts", "account", "SELECT"],
        "SELECT id, email, display_name, locale FROM account WHERE id = $1", 900.0;
    ACCOUNT_BY_EMAIL: "postgresql" ["accounts", "account", "SELECT"],
        "SELECT id, password_hash, locked FROM account WHERE email = lower($1)", 1400.0;
    ACCOUNT_TOUCH: "postgresql" ["accounts", "account", "UPDATE"],
        "UPDATE account SET last_seen = now() WHERE id = $1", 1900.0;
    SESSION_GET: "redis" ["0", "", "GET"], "GET session:{}", 240.0;
    SESSION_SET: "redis" ["0", "", "SETEX"], "SETEX session:{} 3600 ?", 310.0;
    MENU_CACHED: "redis" ["2", "", "GET"], "GET menu:{}", 330.0;
    SURGE_GET: "redis" ["3", "", "GET"], "GET surge:{}", 210.0;
    BASKET_READ: "redis" ["1", "", "HGETALL"], "HGETALL basket:{}", 380.0;
    BASKET_WRITE: "redis" ["1", "", "HSET"], "HSET basket:{} ? ?", 350.0;
    DISHES_FIND: "mongodb" ["menu", "dishes", "find"],
        "{\"find\":\"dishes\",\"filter\":{\"kitchen\":\"?\",\"listed\":true}}", 3200.0;
    OPTIONS_FIND: "mongodb" ["menu", "dish_options", "find"],
        "{\"find\":\"dish_options\",\"filter\":{\"dish\":\"?\"}}", 1100.0;
    COURIERS_NEAR: "mongodb" ["tracking", "positions", "aggregate"],
        "{\"aggregate\":\"positions\",\"pipeline\":[{\"$geoNear\":\"?\"},{\"$limit\":\"?\"}]}", 5400.0;
    POSITION_INSERT: "mongodb" ["tracking", "positions", "insert"],
        "{\"insert\":\"positions\",\"documents\":\"?\"}", 1300.0;
    KITCHENS_SEARCH: "elasticsearch" ["supper-search", "kitchens", "search"],
        "{\"query\":{\"bool\":{\"must\":[{\"match\":{\"cuisine\":\"?\"}}],\"filter\":[{\"geo_distance\":\"?\"}]}}}", 11000.0;
    ORDER_INSERT: "postgresql" ["orders", "meal_order", "INSERT"],
        "INSERT INTO meal_order (id, account_id, kitchen_id, total_cents, placed_at) VALUES ($1, $2, $3, $4, now())", 2600.0;
    ORDER_LINE_INSERT: "postgresql" ["orders", "order_line", "INSERT"],
        "INSERT INTO order_line (order_id, dish_id, quantity) VALUES ($1, $2, $3)", 1200.0;
    ORDERS_OF_ACCOUNT: "postgresql" ["orders", "meal_order", "SELECT"],
        "SELECT id, kitchen_id, total_cents, state FROM meal_order WHERE account_id = $1 ORDER BY placed_at DESC LIMIT 20", 4100.0;
    LINES_OF_ORDER: "postgresql" ["orders", "order_line", "SELECT"],
        "SELECT dish_id, quantity FROM order_line WHERE order_id = $1", 1000.0;
    ORDER_STATE: "postgresql" ["orders", "meal_order", "SELECT"],
        "SELECT state, courier_id, eta FROM meal_order WHERE id = $1", 950.0;
    CHARGE_INSERT: "postgresql" ["payments", "charge", "INSERT"],
        "INSERT INTO charge (id, order_id, amount_cents, state) VALUES ($1, $2, $3, 'pending')", 2100.0;
    CHARGE_UPDATE: "postgresql" ["payments", "charge", "UPDATE"],
        "UPDATE charge SET state = $2, bank_reference = $3 WHERE id = $1", 1800.0;
    ENTRY_INSERT: "postgresql" ["ledger", "entry", "INSERT"],
        "INSERT INTO entry (account, counter_account, amount_cents) VALUES ($1, $2, $3), ($2, $1, -$3)", 2300.0;
    TICKET_INSERT: "postgresql" ["kitchen", "ticket", "INSERT"],
        "INSERT INTO ticket (order_id, kitchen_id, ready_at) VALUES ($1, $2, $3)", 1900.0;
    SHIFT_SELECT: "postgresql" ["kitchen", "shift", "SELECT"],
        "SELECT cook_id, free_from FROM shift WHERE kitchen_id = $1 AND day = current_date FOR UPDATE", 2700.0;
    COURIER_ASSIGN: "postgresql" ["dispatch", "courier", "UPDATE"],
        "UPDATE courier SET order_id = $2 WHERE id = $1 AND order_id IS NULL", 2200.0;
    TEMPLATE_SELECT: "mysql" ["notify", "template", "SELECT"],
        "SELECT subject, body FROM template WHERE name = ? AND locale = ?", 800.0;
    RATINGS_SELECT: "mysql" ["ratings", "rating", "SELECT"],
        "SELECT stars, comment, created FROM rating WHERE kitchen_id = ? ORDER BY created DESC LIMIT ?", 2400.0;
    RATING_INSERT: "mysql" ["ratings", "rating", "INSERT"],
        "INSERT INTO rating (order_id, kitchen_id, stars, comment) VALUES (?, ?, ?, ?)", 2000.0;
    SETTLE_SELECT: "postgresql" ["ledger", "entry", "SELECT"],
        "SELECT sum(amount_cents) FROM entry WHERE account = $1 AND booked BETWEEN $2 AND $3", 6200.0;
    POINTS_UPDATE: "postgresql" ["loyalty", "points", "UPDATE"],
        "UPDATE points SET balance = balance + $2 WHERE account_id = $1", 1500.0;
}
