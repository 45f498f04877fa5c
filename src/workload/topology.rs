//! The platform: its services, what each can be asked, and what answering takes.
//!
//! Read [`Operation`] and [`Step`]. The calls form no circle, so walking them always ends.
//!
//! ```text
//! edge-gateway ─┬─ storefront ─┬─ accounts   ├─ menu ─ search ─ pricing ─ geo
//!               │              ├─ basket     └─ ratings
//!               │              └─ orders ─┬─ payments ─ ledger ─ (bank)
//!               └─ tracking               └─ loyalty
//! orders ~> kitchen ~> dispatch ─ tracking, geo      (~> is a topic)
//! orders, dispatch, payments ~> notify               (batches, in traces of their own)
//! ```

use super::statements::*;

/// A service of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Service {
    Gateway,
    Storefront,
    Accounts,
    Menu,
    Search,
    Pricing,
    Geo,
    Basket,
    Orders,
    Payments,
    Ledger,
    Kitchen,
    Dispatch,
    Tracking,
    Notify,
    Ratings,
    Images,
    Settlement,
    Loyalty,
}

/// What is known of a service whatever it is asked.
#[derive(Debug)]
pub(super) struct ServiceFacts {
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    pub(super) language: &'static str,
    pub(super) pod_count: usize,
    /// The version at first, and the one after the rollout.
    pub(super) versions: [&'static str; 2],
    /// When the second version is rolled out, as a share of the time range; 2 is never.
    pub(super) rollout_at: f64,
}

const fn facts(
    [name, namespace, language]: [&'static str; 3],
    pod_count: usize,
    versions: [&'static str; 2],
    rollout_at: f64,
) -> ServiceFacts {
    ServiceFacts {
        name,
        namespace,
        language,
        pod_count,
        versions,
        rollout_at,
    }
}

const NEVER: f64 = 2.0;

/// The services, in the order of [`Service`].
pub(super) static SERVICES: [ServiceFacts; 19] = [
    facts(["edge-gateway", "edge", "go"], 4, ["2.8.1", "2.8.1"], NEVER),
    facts(
        ["storefront", "edge", "nodejs"],
        5,
        ["118.0.0", "119.0.0"],
        0.3,
    ),
    facts(["accounts", "core", "java"], 3, ["7.2.0", "7.2.0"], NEVER),
    facts(["menu", "catalog", "java"], 3, ["4.11.3", "4.11.3"], NEVER),
    facts(["search", "catalog", "java"], 3, ["3.0.9", "3.0.9"], NEVER),
    facts(["pricing", "core", "rust"], 3, ["0.41.0", "0.42.0"], 0.45),
    facts(["geo", "core", "rust"], 2, ["1.6.2", "1.6.2"], NEVER),
    facts(["basket", "core", "go"], 3, ["1.19.0", "1.19.0"], NEVER),
    facts(["orders", "core", "java"], 4, ["12.4.0", "12.5.0"], 0.72),
    facts(
        ["payments", "money", "dotnet"],
        3,
        ["5.1.7", "5.1.7"],
        NEVER,
    ),
    facts(["ledger", "money", "dotnet"], 2, ["2.0.0", "2.0.0"], NEVER),
    facts(["kitchen", "ops", "python"], 3, ["0.9.14", "0.9.14"], NEVER),
    facts(["dispatch", "ops", "go"], 3, ["6.3.0", "6.3.0"], NEVER),
    facts(["tracking", "ops", "go"], 4, ["2.2.2", "2.2.2"], NEVER),
    facts(["notify", "ops", "python"], 2, ["1.0.31", "1.0.31"], NEVER),
    facts(["ratings", "catalog", "ruby"], 2, ["8.8.0", "8.8.0"], NEVER),
    facts(["images", "edge", "rust"], 2, ["0.3.5", "0.3.5"], NEVER),
    facts(
        ["settlement", "money", "java"],
        1,
        ["1.4.0", "1.4.0"],
        NEVER,
    ),
    facts(["loyalty", "core", "nodejs"], 2, ["0.1.0", "0.1.0"], NEVER),
];

/// How an operation is asked for.
#[derive(Debug)]
pub(super) enum Entrance {
    /// An HTTP request: method, route, and whether the route is part of the public API.
    Http(&'static str, &'static str),
    /// A gRPC call: service, method.
    Grpc(&'static str, &'static str),
    /// A message of a topic, handled by a consumer group.
    Consume(&'static str, &'static str),
    /// A job started by a timer.
    Job(&'static str),
}

/// Something a service can be asked, and the steps of its answer.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) service: Service,
    pub(super) entrance: Entrance,
    /// The median of the time spent outside the steps.
    pub(super) micros: f64,
    /// How often it fails of itself.
    pub(super) failure: f64,
    pub(super) steps: &'static [Step],
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Action {
    /// Calls another service.
    Call(&'static Operation),
    /// Runs a statement.
    Query(&'static Statement),
    /// Sends a message that a consumer handles within the same trace.
    Publish(&'static str, &'static Operation),
    /// Sends a message that [`NOTIFY_BATCH`] will handle in a trace of its own.
    Notify(&'static str),
    /// Works inside the process: the name and the median of its microseconds.
    Work(&'static str, f64),
    /// Works in old code whose spans say no kind.
    Legacy(&'static str, f64),
    /// Calls a company outside: method, host, path, median of the microseconds, failure.
    External(&'static str, &'static str, &'static str, f64, f64),
}

/// A step of an operation.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) action: Action,
    /// How often it is taken at all.
    pub(super) chance: f64,
    /// The median number of repetitions (log-normal); 0 means exactly one.
    pub(super) repeat: f64,
    /// Whether the repetitions run side by side.
    pub(super) parallel: bool,
    /// Taken only after this share of the time range.
    pub(super) after: f64,
}

impl Step {
    const fn new(action: Action) -> Self {
        Self {
            action,
            chance: 1.0,
            repeat: 0.0,
            parallel: false,
            after: 0.0,
        }
    }

    const fn chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    const fn repeat(mut self, median: f64) -> Self {
        self.repeat = median;
        self
    }

    const fn parallel(mut self) -> Self {
        self.parallel = true;
        self
    }

    const fn after(mut self, share: f64) -> Self {
        self.after = share;
        self
    }
}

const fn call(operation: &'static Operation) -> Step {
    Step::new(Action::Call(operation))
}

const fn query(statement: &'static Statement) -> Step {
    Step::new(Action::Query(statement))
}

const fn work(name: &'static str, micros: f64) -> Step {
    Step::new(Action::Work(name, micros))
}

const fn notify(topic: &'static str) -> Step {
    Step::new(Action::Notify(topic))
}

macro_rules! operations {
    ($($name:ident: $service:ident $entrance:expr, $micros:literal, $failure:literal, [$($step:expr),* $(,)?];)*) => {
        $(pub(super) static $name: Operation = Operation {
            service: Service::$service,
            entrance: $entrance,
            micros: $micros,
            failure: $failure,
            steps: &[$($step),*],
        };)*
    };
}

use Entrance::{Consume, Grpc, Http, Job};

// The inner services.
operations! {
    GEO_LOCATE: Geo Grpc("supper.geo.v1.Geo", "Locate"), 300.0, 0.0012, [work("cell lookup", 120.0).chance(0.4)];
    GEO_ROUTE: Geo Grpc("supper.geo.v1.Geo", "PlanRoute"), 900.0, 0.003, [work("shortest path", 6000.0)];
    SESSION_CHECK: Accounts Grpc("supper.accounts.v1.Accounts", "CheckSession"), 400.0, 0.0024, [
        query(&SESSION_GET), query(&ACCOUNT_BY_ID).chance(0.15)];
    ACCOUNT_GET: Accounts Http("GET", "/v1/accounts/{account_id}"), 700.0, 0.003, [query(&ACCOUNT_BY_ID)];
    LOGIN: Accounts Http("POST", "/v1/login"), 1500.0, 0.009, [
        query(&ACCOUNT_BY_EMAIL), work("verify password", 48000.0), query(&SESSION_SET), query(&ACCOUNT_TOUCH)];
    QUOTE: Pricing Grpc("supper.pricing.v1.Pricing", "Quote"), 600.0, 0.0045, [
        query(&SURGE_GET), call(&GEO_LOCATE).chance(0.5), work("apply rules", 700.0).chance(0.6)];
    DISHES_GET: Menu Grpc("supper.menu.v1.Menu", "GetDishes"), 800.0, 0.003, [
        query(&MENU_CACHED), query(&DISHES_FIND).chance(0.2)];
    MENU_GET: Menu Http("GET", "/v1/kitchens/{kitchen_id}/menu"), 1600.0, 0.0045, [
        query(&MENU_CACHED), query(&DISHES_FIND).chance(0.5), query(&OPTIONS_FIND).chance(0.3).repeat(7.0)];
    SEARCH: Search Http("GET", "/v1/search"), 2200.0, 0.006, [
        call(&GEO_LOCATE), query(&KITCHENS_SEARCH), work("rank", 2600.0),
        call(&QUOTE).chance(0.6).repeat(3.0).parallel()];
    RATINGS_GET: Ratings Http("GET", "/v1/kitchens/{kitchen_id}/ratings"), 2600.0, 0.0045, [
        query(&RATINGS_SELECT), Step::new(Action::Legacy("ratings.render", 1800.0)).chance(0.7)];
    RATING_POST: Ratings Http("POST", "/v1/ratings"), 2100.0, 0.006, [
        Step::new(Action::Legacy("ratings.spamcheck", 2500.0)), query(&RATING_INSERT)];
    BASKET_GET: Basket Grpc("supper.basket.v1.Basket", "Get"), 250.0, 0.0018, [query(&BASKET_READ)];
    BASKET_ADD: Basket Grpc("supper.basket.v1.Basket", "Add"), 350.0, 0.003, [
        call(&DISHES_GET), query(&BASKET_WRITE)];
    LEDGER_POST: Ledger Grpc("supper.ledger.v1.Ledger", "Post"), 900.0, 0.0024, [query(&ENTRY_INSERT)];
    CHARGE: Payments Grpc("supper.payments.v1.Payments", "Charge"), 1900.0, 0.009, [
        query(&CHARGE_INSERT), work("score fraud", 9000.0),
        Step::new(Action::External("POST", "api.northbank.example", "/v3/charges", 160_000.0, 0.012)),
        query(&CHARGE_UPDATE), call(&LEDGER_POST), notify("payment-events").chance(0.9)];
    POINTS_ADD: Loyalty Http("POST", "/v1/points"), 1200.0, 0.012, [query(&POINTS_UPDATE)];
    COURIERS_FIND: Tracking Grpc("supper.tracking.v1.Tracking", "FindNear"), 700.0, 0.003, [query(&COURIERS_NEAR)];
    DISPATCH_ASSIGN: Dispatch Consume("kitchen-tickets", "dispatch"), 2500.0, 0.012, [
        call(&COURIERS_FIND), call(&GEO_ROUTE).repeat(5.0).parallel(), work("choose courier", 1500.0),
        query(&COURIER_ASSIGN), notify("courier-offers")];
    KITCHEN_ACCEPT: Kitchen Consume("orders-placed", "kitchen"), 3800.0, 0.009, [
        query(&SHIFT_SELECT), work("fit schedule", 14_000.0), query(&TICKET_INSERT),
        Step::new(Action::Publish("kitchen-tickets", &DISPATCH_ASSIGN))];
    ORDER_PLACE: Orders Http("POST", "/v1/orders"), 3200.0, 0.009, [
        call(&BASKET_GET), call(&QUOTE), call(&CHARGE), query(&ORDER_INSERT),
        query(&ORDER_LINE_INSERT).repeat(3.0), call(&POINTS_ADD).after(0.75),
        Step::new(Action::Publish("orders-placed", &KITCHEN_ACCEPT)), notify("order-events")];
    ORDERS_LIST: Orders Http("GET", "/v1/orders"), 2400.0, 0.0045, [
        query(&ORDERS_OF_ACCOUNT), query(&LINES_OF_ORDER).repeat(8.0)];
    ORDER_STATUS: Orders Http("GET", "/v1/orders/{order_id}"), 900.0, 0.003, [query(&ORDER_STATE)];
    POSITION_POST: Tracking Http("POST", "/v1/positions"), 500.0, 0.003, [query(&POSITION_INSERT)];
    IMAGE_GET: Images Http("GET", "/images/{image_id}"), 800.0, 0.003, [
        Step::new(Action::External("GET", "supper-images.objects.example", "/dishes", 14_000.0, 0.002)).chance(0.25),
        work("resize", 5200.0).chance(0.2)];
}

// The pages and calls of the apps, as the storefront serves them.
operations! {
    PAGE_HOME: Storefront Http("GET", "/"), 4200.0, 0.0045, [
        call(&SESSION_CHECK), call(&SEARCH).chance(0.7), call(&ORDER_STATUS).chance(0.12), work("render", 6400.0)];
    PAGE_SEARCH: Storefront Http("GET", "/search"), 3100.0, 0.0045, [
        call(&SESSION_CHECK).chance(0.8), call(&SEARCH), work("render", 5100.0)];
    PAGE_MENU: Storefront Http("GET", "/kitchens/{kitchen_id}"), 3600.0, 0.0045, [
        call(&SESSION_CHECK).chance(0.8), call(&MENU_GET), call(&RATINGS_GET).chance(0.5),
        call(&QUOTE).chance(0.6), work("render", 7200.0)];
    API_BASKET: Storefront Http("POST", "/api/basket"), 1800.0, 0.0045, [
        call(&SESSION_CHECK), call(&BASKET_ADD), call(&QUOTE)];
    API_LOGIN: Storefront Http("POST", "/api/login"), 1500.0, 0.006, [call(&LOGIN)];
    API_CHECKOUT: Storefront Http("POST", "/api/checkout"), 4400.0, 0.006, [
        call(&SESSION_CHECK), call(&ACCOUNT_GET), call(&ORDER_PLACE)];
    PAGE_ORDERS: Storefront Http("GET", "/orders"), 2900.0, 0.0045, [
        call(&SESSION_CHECK), call(&ORDERS_LIST), call(&DISHES_GET).chance(0.5).repeat(3.0).parallel(),
        work("render", 4800.0)];
    API_STATUS: Storefront Http("GET", "/api/orders/{order_id}"), 1100.0, 0.003, [
        call(&SESSION_CHECK).chance(0.5), call(&ORDER_STATUS)];
    API_RATING: Storefront Http("POST", "/api/ratings"), 1700.0, 0.0045, [
        call(&SESSION_CHECK), call(&RATING_POST)];
}

// What reaches the platform from outside, and what starts by itself.
operations! {
    GATE_HEALTH: Gateway Http("GET", "/healthz"), 90.0, 0.0, [];
    GATE_HOME: Gateway Http("GET", "/"), 700.0, 0.0012, [call(&PAGE_HOME)];
    GATE_SEARCH: Gateway Http("GET", "/search"), 600.0, 0.0012, [call(&PAGE_SEARCH)];
    GATE_MENU: Gateway Http("GET", "/kitchens/{kitchen_id}"), 650.0, 0.0012, [call(&PAGE_MENU)];
    GATE_BASKET: Gateway Http("POST", "/api/basket"), 600.0, 0.0012, [call(&API_BASKET)];
    GATE_LOGIN: Gateway Http("POST", "/api/login"), 600.0, 0.0012, [call(&API_LOGIN)];
    GATE_CHECKOUT: Gateway Http("POST", "/api/checkout"), 800.0, 0.0012, [call(&API_CHECKOUT)];
    GATE_ORDERS: Gateway Http("GET", "/orders"), 650.0, 0.0012, [call(&PAGE_ORDERS)];
    GATE_STATUS: Gateway Http("GET", "/api/orders/{order_id}"), 500.0, 0.0012, [call(&API_STATUS)];
    GATE_RATING: Gateway Http("POST", "/api/ratings"), 600.0, 0.0012, [call(&API_RATING)];
    GATE_POSITION: Gateway Http("POST", "/courier/positions"), 400.0, 0.0012, [call(&POSITION_POST)];
    GATE_IMAGE: Gateway Http("GET", "/images/{image_id}"), 400.0, 0.0012, [call(&IMAGE_GET)];
    SETTLE: Settlement Job("settle kitchens"), 90_000.0, 0.03, [
        query(&SETTLE_SELECT).repeat(60.0), work("round amounts", 700.0).repeat(60.0),
        call(&LEDGER_POST).repeat(50.0), notify("settlement-events")];
    NOTIFY_BATCH: Notify Consume("notifications", "notify"), 2800.0, 0.006, [
        query(&TEMPLATE_SELECT), work("render message", 1600.0),
        Step::new(Action::External("POST", "push.carrier.example", "/v1/send", 42_000.0, 0.008))
            .repeat(2.0)];
}

/// What starts traces, and how often relative to the others.
pub(super) static TRAFFIC: [(&Operation, f64); 13] = [
    (&GATE_HEALTH, 6.0),
    (&GATE_HOME, 17.0),
    (&GATE_SEARCH, 15.0),
    (&GATE_MENU, 19.0),
    (&GATE_BASKET, 12.0),
    (&GATE_LOGIN, 4.0),
    (&GATE_CHECKOUT, 5.0),
    (&GATE_ORDERS, 5.0),
    (&GATE_STATUS, 13.0),
    (&GATE_RATING, 2.5),
    (&GATE_POSITION, 14.0),
    (&GATE_IMAGE, 9.0),
    (&SETTLE, 0.01),
];
