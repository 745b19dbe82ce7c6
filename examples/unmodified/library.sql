-- The database that Datasette serves here; library.db is this file run through sqlite3.
create table books (id integer primary key, title text not null, author text not null, year integer);
insert into books values (1, 'The Mythical Man-Month', 'Fred Brooks', 1975);
insert into books values (2, 'Communicating Sequential Processes', 'Tony Hoare', 1985);
insert into books values (3, 'Security Engineering', 'Ross Anderson', 2001);
create table loans (book integer references books(id), reader text not null, due text not null);
insert into loans values (1, 'ada', '2026-12-01');
insert into loans values (3, 'grace', '2026-12-15');
